//! The one data port: reads each connection's handshake, and hands the connection to its executor or refuses it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidemill_proto::pb;
use tidemill_proto::pb::data_handshake_answer::Answer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::agent_loop::{Input, Ruling};
use super::executor::Connection;
use super::spawn::{TaskKind, spawn};
use super::{frame, wire};

/// How many connections may be in their handshake: more than a cluster has task managers, each dials once a job.
const PENDING_LIMIT: usize = 256;

/// How long a dialler may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the machine has no descriptors left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the agent ends.
pub(crate) async fn run(listener: TcpListener, inbox: mpsc::Sender<Input>) {
    let pending = Arc::new(Semaphore::new(PENDING_LIMIT));
    while !inbox.is_closed() {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("accept data connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Too many at once: this one is closed, and its dialler comes again.
        let Ok(permit) = Arc::clone(&pending).try_acquire_owned() else { continue };
        let inbox = inbox.clone();
        spawn(TaskKind::Connection, peer, async move {
            let _permit = permit;
            match timeout(HANDSHAKE_TIMEOUT, receive(socket, &inbox)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("receive data connection from {peer}: {error}"),
                Err(_) => debug!("receive data connection from {peer}: no handshake within {HANDSHAKE_TIMEOUT:?}"),
            }
        });
    }
}

async fn receive(mut socket: TcpStream, inbox: &mpsc::Sender<Input>) -> io::Result<()> {
    let Some(handshake) = frame::read::<pb::DataHandshake>(&mut socket, frame::HANDSHAKE_LIMIT).await? else {
        return Ok(());
    };
    match rule(&handshake, inbox).await {
        Ruling::NotYet => answer(socket, Answer::NotYet, "the executor is not there yet").await,
        Ruling::Refused(reason) => {
            warn!("refuse data connection: {reason}");
            answer(socket, Answer::Refused, &reason).await
        }
        Ruling::Pass(connections) => {
            let Ok(place) = connections.try_reserve() else {
                return answer(socket, Answer::NotYet, "the executor is busy").await;
            };
            let socket = socket.into_std()?;
            // An executor's threads expect a socket as `accept` makes it.
            socket.set_nonblocking(false)?;
            place.send(Connection { handshake, socket });
            Ok(())
        }
    }
}

async fn rule(handshake: &pb::DataHandshake, inbox: &mpsc::Sender<Input>) -> Ruling {
    let version = handshake.protocol_version;
    if version != wire::DATA_PROTOCOL_VERSION {
        let here = wire::DATA_PROTOCOL_VERSION;
        return Ruling::Refused(format!("protocol version {version}, this release speaks {here}"));
    }
    let handshake = match wire::handshake(handshake) {
        Ok(handshake) => handshake,
        Err(error) => return Ruling::Refused(error.to_string()),
    };
    let (reply, ruling) = oneshot::channel();
    if inbox.send(Input::Admit { handshake, reply }).await.is_err() {
        return Ruling::NotYet;
    }
    ruling.await.unwrap_or(Ruling::NotYet)
}

async fn answer(mut socket: TcpStream, answer: Answer, reason: &str) -> io::Result<()> {
    let message = pb::DataHandshakeAnswer { answer: answer.into(), reason: reason.to_owned() };
    socket.write_all(&frame::encode(&message)?).await?;
    socket.shutdown().await
}
