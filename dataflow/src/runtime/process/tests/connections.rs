//! Data connections that an agent passes on, and tasks that wait for one.

use super::*;

/// Passes an accepted connection on to an executor.
fn pass(connections: &OwnedFd, stream: &impl AsFd, handshake: &[u8]) {
    let sockets = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&sockets)));
    rustix::net::sendmsg(connections, &[IoSlice::new(handshake)], &mut ancillary, SendFlags::empty()).expect("passed");
}

/// Both ends of a connection that executor 0 dialled, the accepted one as an agent's runtime leaves it.
fn dialled() -> (TcpStream, TcpStream) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dialler = TcpStream::connect(port.local_addr().expect("bound")).expect("listens");
    dialler.set_read_timeout(Some(LIMIT)).expect("an option");
    let (accepted, _) = port.accept().expect("dialled");
    accepted.set_nonblocking(true).expect("an option");
    (dialler, accepted)
}

fn handshake() -> Handshake {
    Handshake { cluster: id(0xC), job: id(1), attempt: ATTEMPT, from: id(100), to: id(101) }
}

fn answer(dialler: &TcpStream) -> Answer {
    let answer = message::read::<pb::DataHandshakeAnswer>(dialler, 4096).expect("read");
    answer.expect("not closed").answer()
}

#[test]
fn two_executors_exchange_records_over_the_agents_ports() {
    const NUMBERS: u64 = 200_000;
    let flow = greatest(4, Some(NUMBERS));
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("bound").to_string());
    let mut agents = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let (agent, served) = Agent::with_thread(index, &flow);
        let connections = agent.connections.try_clone().expect("cloned");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accepted");
                let handshake = message::read::<pb::DataHandshake>(&stream, 4096).expect("read").expect("not closed");
                pass(&connections, &stream, &handshake.encode_to_vec());
            }
        });
        agent.say(Command::Deploy(deployment(flow.graph(), &addresses, index).into()));
        agents.push((agent, served));
    }
    let (mut ended, mut records) = (BTreeSet::new(), Vec::new());
    for (agent, _) in &agents {
        let (ends, collected) = agent.hear_ends(4);
        assert!(ends.values().all(|end| matches!(end, TerminalState::Finished { .. })), "{ends:?}");
        ended.extend(ends.into_keys());
        records.extend(collected);
    }
    assert_eq!(ended.len(), 8);
    assert_eq!(u64::try_from(records.len()), Ok(NUMBERS), "one update a record");
    let greatest: BTreeSet<u64> = records.iter().copied().filter(|number| *number >= NUMBERS - 10).collect();
    assert_eq!(greatest.len(), 10, "each key's greatest number arrived");
    for (agent, served) in agents {
        drop(agent);
        assert!(served.join().expect("no panic").is_ok());
    }
}

#[test]
fn a_connection_that_comes_before_the_deployment_waits_for_it() {
    let flow = greatest(2, None);
    let (_agent, (control, connections)) = Agent::new(1, spec(flow.graph()));
    let role = ExecutorRole::new(control, connections).expect("a start");
    let service = service::Service::new(role.start, Arc::clone(&flow));
    let (dialler, accepted) = dialled();
    service.accept(handshake(), accepted);
    let addresses = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let (events, _reports) = crossbeam_channel::bounded(64);
    service.deploy(&deployment(flow.graph(), &addresses, 1), &events).expect("deployed");
    assert_eq!(answer(&dialler), Answer::Accepted);
}

#[test]
fn a_message_that_is_no_handshake_is_dropped_and_the_next_one_accepted() {
    let flow = greatest(2, None);
    let (agent, _served) = Agent::with_thread(1, &flow);
    let addresses = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    agent.say(Command::Deploy(deployment(flow.graph(), &addresses, 1).into()));
    let (dialler, accepted) = dialled();
    pass(&agent.connections, &accepted, b"no handshake");
    pass(&agent.connections, &accepted, &pb::DataHandshake::from(handshake()).encode_to_vec());
    assert_eq!(answer(&dialler), Answer::Accepted);
}

#[test]
fn tasks_are_cancelled_while_they_wait_for_a_peer_that_never_comes() {
    let flow = greatest(2, None);
    let (agent, _served) = Agent::with_thread(1, &flow);
    let addresses = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let deployment = deployment(flow.graph(), &addresses, 1);
    agent.say(Command::Deploy(deployment.clone().into()));
    for running in 0..4 {
        let (report, _) = agent.hear_report();
        assert!(!report.state.is_terminal(), "report {running}: {report:?}");
    }
    let attempts = deployment.start.iter().copied().map(Into::into).collect();
    agent.say(Command::Cancel(CancelTasks { attempts }));
    let (ends, _) = agent.hear_ends(2);
    assert!(ends.values().all(|end| *end == TerminalState::Canceled), "{ends:?}");
}
