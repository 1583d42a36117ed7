//! A real S3 server on this machine for tests, and a proxy before it that is out of order when it is told to be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

/// What the proxy does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Passes them on.
    Well,
    /// Answers each second one that it has too much to do, as S3 does.
    Throttling,
    /// Closes connections.
    Away,
    /// Allows nothing.
    Denying,
}

/// The server, and its proxy.
pub struct S3Server {
    process: Child,
    address: String,
    proxy: String,
    mood: Arc<AtomicU8>,
    /// While it throttles.
    requests: Arc<AtomicU64>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl S3Server {
    /// Starts it with a bucket; none, with a loud line, where none is installed.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(bucket: &str) -> Result<Option<Self>> {
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut process) = command.spawn() else {
            println!(
                "SKIPPED: no moto_server is installed (pip install 'moto[server,s3]'), so nothing of S3 was tested"
            );
            return Ok(None);
        };
        let mut lines = BufReader::new(process.stderr.take().context("its output")?).lines();
        let address = lines.find_map(|line| Some(line.ok()?.split_once("Running on http://")?.1.to_owned()));
        // What it goes on saying must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the proxy")?;
        let server = Self {
            process,
            address: address.context("moto_server says where it listens")?,
            proxy: listener.local_addr()?.to_string(),
            mood: Arc::new(AtomicU8::new(Mood::Well as u8)),
            requests: Arc::default(),
        };
        let (upstream, mood, requests) =
            (server.address.clone(), Arc::clone(&server.mood), Arc::clone(&server.requests));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, mood, requests) = (upstream.clone(), Arc::clone(&mood), Arc::clone(&requests));
                // A connection that ends is the client's to notice.
                std::thread::spawn(move || drop(serve(client, &upstream, &mood, &requests)));
            }
        });
        let made = server.request(&format!("PUT /{bucket}"))?;
        ensure!(made.starts_with("HTTP/1.1 200"), "{made}");
        Ok(Some(server))
    }

    /// Has the proxy behave otherwise from the next request on.
    pub fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// How many requests were answered with "slow down".
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.requests.load(Ordering::SeqCst).div_ceil(2)
    }

    /// The environment in which programs find it, through the proxy.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.proxy)),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "not-to-be-replicated".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The keys of all objects of a bucket, as the server tells them.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let listed = self.request(&format!("GET /{bucket}?list-type=2"))?;
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        Ok(keys.map(|(key, _)| key.to_owned()).collect())
    }

    fn request(&self, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).context("connect to moto_server")?;
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Answers the requests of one connection, until it ends.
fn serve(client: TcpStream, upstream: &str, mood: &AtomicU8, requests: &AtomicU64) -> Result<()> {
    let (mut reader, mut client) = (BufReader::new(client.try_clone()?), client);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "the connection has ended");
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
            if !lower.starts_with("connection:") {
                head += &line;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mood = mood.load(Ordering::SeqCst);
        if mood == Mood::Away as u8 {
            return Ok(());
        } else if mood == Mood::Denying as u8 {
            refuse(&mut client, "403 Forbidden", "AccessDenied", "Access Denied")?;
        } else if mood == Mood::Throttling as u8 && requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            refuse(&mut client, "503 Slow Down", "SlowDown", "Please reduce your request rate.")?;
        } else {
            let mut server = TcpStream::connect(upstream)?;
            server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
            server.write_all(&body)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            client.write_all(&answer)?;
            // Its answer says that it closes the connection.
            return Ok(());
        }
    }
}

fn refuse(client: &mut TcpStream, status: &str, code: &str, message: &str) -> Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")?;
    Ok(())
}
