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
use super::metrics::{Metrics, RefusalReason};
use super::spawn::{TaskKind, spawn};
use super::{frame, wire};

/// How many connections may be in their handshake: more than a cluster has task managers, each dials once a job.
const PENDING_LIMIT: usize = 256;

/// How long a dialler may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the machine has no descriptors left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the agent ends.
pub(crate) async fn run(listener: TcpListener, inbox: mpsc::Sender<Input>, metrics: Arc<Metrics>) {
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
        let (inbox, metrics) = (inbox.clone(), Arc::clone(&metrics));
        spawn(TaskKind::Connection, peer, async move {
            let _permit = permit;
            let error = match timeout(HANDSHAKE_TIMEOUT, receive(socket, &inbox, &metrics)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no handshake within {HANDSHAKE_TIMEOUT:?}"),
            };
            metrics.refuse_connection(RefusalReason::NoHandshake);
            debug!("receive data connection from {peer}: {error}");
        });
    }
}

/// An error means that no handshake came, or the dialler left.
async fn receive(mut socket: TcpStream, inbox: &mpsc::Sender<Input>, metrics: &Metrics) -> io::Result<()> {
    let Some(handshake) = frame::read::<pb::DataHandshake>(&mut socket, frame::HANDSHAKE_LIMIT).await? else {
        return Ok(());
    };
    let version = handshake.protocol_version;
    if version != wire::DATA_PROTOCOL_VERSION {
        metrics.refuse_connection(RefusalReason::Version);
        let here = wire::DATA_PROTOCOL_VERSION;
        let reason = format!("protocol version {version}, this release speaks {here}");
        warn!("refuse data connection: {reason}");
        return last_words(socket, Answer::Refused, &reason).await;
    }
    match rule(&handshake, inbox).await {
        Ruling::NotYet => last_words(socket, Answer::NotYet, "the executor is not there yet").await,
        Ruling::Refused(reason) => {
            metrics.refuse_connection(RefusalReason::Misled);
            warn!("refuse data connection: {reason}");
            last_words(socket, Answer::Refused, &reason).await
        }
        Ruling::Pass(connections) => {
            let Ok(place) = connections.try_reserve() else {
                return last_words(socket, Answer::NotYet, "the executor is busy").await;
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

/// Answers, and ends the connection; a dialler that has left needs no answer.
async fn last_words(mut socket: TcpStream, answer: Answer, reason: &str) -> io::Result<()> {
    let message = pb::DataHandshakeAnswer { answer: answer.into(), reason: reason.to_owned() };
    if let Err(error) = socket.write_all(&frame::encode(&message)?).await {
        debug!("answer data connection: {error}");
        return Ok(());
    }
    // It may have left by now.
    let _ = socket.shutdown().await;
    Ok(())
}
