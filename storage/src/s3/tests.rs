//! A server that speaks S3, on this machine: moto's, where it is installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use object_store::path::Path;
use tidemill_model::checkpoint::StateHandle;

use super::*;
use crate::{CheckpointStorage, Error, JobStorage};

struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// None where there is no such server.
    fn start() -> Option<Self> {
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut process) = command.spawn() else {
            println!(
                "SKIPPED: no moto_server is installed (pip install 'moto[server,s3]'), so nothing of S3 was tested"
            );
            return None;
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| Some(line.ok()?.split_once("Running on http://")?.1.to_owned())).unwrap();
        // What it goes on saying must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address })
    }

    fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        write!(stream, "{request} {head}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn storage(&self, bucket: &str) -> CheckpointStorage {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_SESSION_TOKEN", String::new()),
            ("AWS_PAGER", "cat".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let store = open_as(variables.into_iter(), bucket, Patience::Short).unwrap();
        CheckpointStorage::of_store(store, Path::from("folder"), &format!("s3://{bucket}/folder"))
    }

    fn job(&self) -> JobStorage {
        assert!(self.request("PUT /states").starts_with("HTTP/1.1 200"));
        self.storage("states").job("0190f3a1b2c37d4e8f00112233445566".parse().unwrap())
    }
}

async fn write(storage: &JobStorage, path: &str, bytes: &[u8]) -> StateHandle {
    let mut writer = storage.create(path).await.unwrap();
    for piece in bytes.chunks(1 << 20) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let length = writer.finish().await.unwrap();
    StateHandle::File { path: path.to_owned(), offset: 0, length, checksum: crc32fast::hash(bytes) }
}

#[tokio::test]
async fn small_and_large_files_are_written_read_listed_and_deleted_in_a_bucket() {
    let Some(server) = Server::start() else { return };
    let storage = server.job();
    server.storage("states").check().await.unwrap();
    let large: Vec<u8> = (0..40_000_000u32).map(|index| u8::try_from(index / 7 % 251).unwrap()).collect();
    let (small, whole) = (write(&storage, "7/a", b"few bytes").await, write(&storage, "7/b", &large).await);
    assert_eq!(storage.read(&small).await.unwrap(), b"few bytes".as_slice());
    assert_eq!(storage.read(&whole).await.unwrap(), large);
    let part = large[9_000_000..31_000_000].to_vec();
    let range = StateHandle::File {
        path: "7/b".to_owned(),
        offset: 9_000_000,
        length: 22_000_000,
        checksum: crc32fast::hash(&part),
    };
    assert_eq!(storage.read(&range).await.unwrap(), part);
    let files = [("7/a".to_owned(), 9), ("7/b".to_owned(), 40_000_000)];
    assert_eq!(storage.list().await.unwrap(), files);
    let beyond = StateHandle::File { path: "7/a".to_owned(), offset: 4, length: 9, checksum: 0 };
    let error = storage.read(&beyond).await.unwrap_err();
    assert!(matches!(&error, Error::Truncated { file, end: 13 } if file.ends_with("7/a")), "{error}");
    storage.delete(&["7/a".to_owned(), "7/never".to_owned()]).await.unwrap();
    let error = storage.read(&small).await.unwrap_err();
    assert!(matches!(&error, Error::Missing { file } if file.starts_with("s3://states/folder/")), "{error}");
    storage.delete_all().await.unwrap();
    assert_eq!(storage.list().await.unwrap(), []);
}

#[tokio::test]
async fn of_a_large_file_that_is_given_up_no_part_is_left() {
    let Some(server) = Server::start() else { return };
    let storage = server.job();
    let mut writer = storage.create("7/a").await.unwrap();
    for _ in 0..20 {
        writer.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    }
    let uploads = || server.request("GET /states?uploads").matches("<UploadId>").count();
    assert_eq!(uploads(), 1);
    drop(writer);
    let mut asked = 0;
    while uploads() > 0 {
        // What was under way belongs to this thread.
        tokio::task::yield_now().await;
        asked += 1;
        assert!(asked < 3000, "parts are left");
    }
    assert_eq!(storage.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_and_a_server_that_does_not_answer_are_told() {
    let Some(server) = Server::start() else { return };
    let error = server.storage("nowhere").check().await.unwrap_err().to_string();
    assert!(error.contains("s3://nowhere/folder") && error.contains("bucket does not exist"), "{error}");
    let storage = server.storage("states");
    drop(server);
    let error = storage.check().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
