//! The data port: whom it lets in, and to which executor.

use prost::Message;
use tidemill_proto::pb::data_handshake_answer::Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn handshake(session: &Session, number: u32) -> pb::DataHandshake {
    pb::DataHandshake {
        protocol_version: 1,
        cluster_id: uuid(CLUSTER),
        job: uuid(JOB),
        attempt: number,
        from_task_manager: uuid(1),
        to_task_manager: session.hello.task_manager_id.clone(),
    }
}

/// Dials and shakes hands; the connection and the answer.
async fn dial(agent: &Agent, handshake: &pb::DataHandshake) -> (TcpStream, Answer) {
    let mut socket = TcpStream::connect(&agent.data).await.expect("the data port listens");
    let body = handshake.encode_to_vec();
    socket.write_u32_le(u32::try_from(body.len()).expect("short")).await.expect("written");
    socket.write_all(&body).await.expect("written");
    let length = usize::try_from(socket.read_u32_le().await.expect("an answer")).expect("short");
    let mut answer = vec![0; length];
    socket.read_exact(&mut answer).await.expect("an answer");
    let answer = pb::DataHandshakeAnswer::decode(&answer[..]).expect("an answer").answer();
    (socket, answer)
}

/// Dials an executor and has it send something back.
async fn echo(agent: &Agent, handshake: &pb::DataHandshake) {
    let (mut socket, answer) = dial(agent, handshake).await;
    assert_eq!(answer, Answer::Accepted);
    socket.write_all(b"hello").await.expect("the executor reads");
    let mut echo = [0; 5];
    socket.read_exact(&mut echo).await.expect("the executor answers");
    assert_eq!(&echo, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_port_hands_connections_to_their_executor_and_refuses_the_rest() {
    let (_leader, agent, mut session, spec, _) = running("run").await;
    echo(&agent, &handshake(&session, 0)).await;
    assert_eq!(dial(&agent, &handshake(&session, 1)).await.1, Answer::NotYet);
    run(&mut session, &spec, 1).await;
    for number in 0..2 {
        echo(&agent, &handshake(&session, number)).await;
    }
    session.send(EPOCH, FromLeader::Cancel(pb::CancelTasks { attempts: vec![attempt(0)] })).await;
    while !matches!(session.state_of(&attempt(0)).await, State::Canceled(_)) {}
    session.send(EPOCH, FromLeader::Acknowledge(pb::AcknowledgeTerminal { attempts: vec![attempt(0)] })).await;
    // The acknowledgement has arrived before the answer to what follows it.
    session.send(EPOCH, FromLeader::Cancel(pb::CancelTasks { attempts: vec![attempt(9)] })).await;
    assert!(matches!(session.state_of(&attempt(9)).await, State::Canceled(_)));
    assert_eq!(dial(&agent, &handshake(&session, 0)).await.1, Answer::Refused);
    let other = pb::DataHandshake { to_task_manager: uuid(99), ..handshake(&session, 1) };
    assert_eq!(dial(&agent, &other).await.1, Answer::Refused);
    let future = pb::DataHandshake { protocol_version: 2, ..handshake(&session, 1) };
    assert_eq!(dial(&agent, &future).await.1, Answer::Refused);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], &[3, 0, 0, 0, 1, 2, 3]] {
        let mut socket = TcpStream::connect(&agent.data).await.expect("the data port listens");
        socket.write_all(garbage).await.expect("written");
        let mut rest = Vec::new();
        // Whether it is answered or cut off does not matter, only that it ends.
        let _cut = socket.read_to_end(&mut rest).await;
    }
    // 64 zeros are an empty handshake, of version 0.
    let counts = ["no handshake\"} 3", "version\"} 2", "misled\"} 2"];
    let counts = counts.map(|count| format!("tidemill_taskmanager_data_connections_refused_total{{reason=\"{count}\n"));
    until("all are counted", || {
        let metrics = agent.get("/metrics");
        counts.iter().all(|count| metrics.contains(count)).then_some(())
    })
    .await;
    assert_eq!(dial(&agent, &handshake(&session, 1)).await.1, Answer::Accepted);
}
