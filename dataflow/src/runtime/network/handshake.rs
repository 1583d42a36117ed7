//! The first words on a data connection: who dials whom for which attempt of which job, and the answer.

use std::io;
use std::net::TcpStream;

use tidemill_model::id::{AttemptNumber, ClusterId, JobId, TaskManagerId};
use tidemill_proto::{convert, pb};

use super::message;

/// The version of handshake and frames together.
pub const PROTOCOL_VERSION: u32 = 1;

/// The most bytes that a handshake or its answer may have.
pub(super) const MAX_HANDSHAKE_BYTES: usize = 4 * 1024;

/// Who dials whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The cluster that both belong to.
    pub cluster: ClusterId,
    /// The job.
    pub job: JobId,
    /// The attempt number of the job's tasks.
    pub attempt: AttemptNumber,
    /// The dialler.
    pub from: TaskManagerId,
    /// The dialled.
    pub to: TaskManagerId,
}

/// Why a message is no handshake.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are no such message.
    #[error("decode data handshake: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field does not fit.
    #[error(transparent)]
    Field(#[from] convert::Error),
    /// Another protocol.
    #[error("check data handshake: protocol version {found}, this executor speaks {PROTOCOL_VERSION}")]
    Version {
        /// The dialler's version.
        found: u32,
    },
}

impl From<Handshake> for pb::DataHandshake {
    fn from(handshake: Handshake) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: convert::uuid_bytes(handshake.cluster.0),
            job: convert::uuid_bytes(handshake.job.0),
            attempt: handshake.attempt.0,
            from_task_manager: convert::uuid_bytes(handshake.from.0),
            to_task_manager: convert::uuid_bytes(handshake.to.0),
        }
    }
}

impl TryFrom<pb::DataHandshake> for Handshake {
    type Error = HandshakeError;

    fn try_from(handshake: pb::DataHandshake) -> Result<Self, HandshakeError> {
        if handshake.protocol_version != PROTOCOL_VERSION {
            return Err(HandshakeError::Version { found: handshake.protocol_version });
        }
        Ok(Self {
            cluster: convert::cluster_id(&handshake.cluster_id, "cluster_id")?,
            job: convert::job_id(&handshake.job, "job")?,
            attempt: AttemptNumber(handshake.attempt),
            from: convert::task_manager_id(&handshake.from_task_manager, "from_task_manager")?,
            to: convert::task_manager_id(&handshake.to_task_manager, "to_task_manager")?,
        })
    }
}

impl Handshake {
    /// The handshake in the bytes of its message.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        <pb::DataHandshake as prost::Message>::decode(bytes)?.try_into()
    }
}

/// What the dialled side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Elements may flow.
    Accepted,
    /// The executor is not there yet: dial again.
    NotYet(String),
    /// Never.
    Refused(String),
}

/// Says who dials, and reads the answer. An error means that the answer, if there was one, is not known.
pub(super) fn ask(stream: &TcpStream, handshake: Handshake) -> Result<Answer, message::Error> {
    message::write(stream, &pb::DataHandshake::from(handshake), MAX_HANDSHAKE_BYTES)?;
    let Some(answer) = message::read::<pb::DataHandshakeAnswer>(stream, MAX_HANDSHAKE_BYTES)? else {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    };
    Ok(match answer.answer() {
        pb::data_handshake_answer::Answer::Accepted => Answer::Accepted,
        pb::data_handshake_answer::Answer::NotYet => Answer::NotYet(answer.reason),
        pb::data_handshake_answer::Answer::Refused => Answer::Refused(answer.reason),
        pb::data_handshake_answer::Answer::Unspecified => Answer::Refused("an answer of an unknown kind".into()),
    })
}

/// Answers a handshake.
pub(super) fn answer(stream: &TcpStream, answer: Answer) -> Result<(), message::Error> {
    let (answer, reason) = match answer {
        Answer::Accepted => (pb::data_handshake_answer::Answer::Accepted, String::new()),
        Answer::NotYet(reason) => (pb::data_handshake_answer::Answer::NotYet, reason),
        Answer::Refused(reason) => (pb::data_handshake_answer::Answer::Refused, reason),
    };
    let answer = pb::DataHandshakeAnswer { answer: answer.into(), reason };
    message::write(stream, &answer, MAX_HANDSHAKE_BYTES)
}
