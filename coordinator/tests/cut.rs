//! A cut between coordinators that is healed is usable, although every connection over it is dead.
#![cfg(feature = "raft")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Cluster, eventually};
use tidemill_coordinator::runtime::spawn::spawn;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where coordinators are reached through a [`Gate`].
const GATES: &str = "127.0.0.2";

/// All connections to one address. What goes over it when it is cut is dead for ever, and neither end is told: as after
/// a firewall has forgotten its connections. New ones wait until the cut is healed.
struct Gate {
    open: Arc<watch::Sender<bool>>,
    dead: Arc<AtomicUsize>,
}

impl Gate {
    async fn before(address: &str) -> Self {
        let port = address.rsplit(':').next().expect("a port").to_owned();
        let listener = TcpListener::bind(format!("{GATES}:{port}")).await.expect("the port is reserved");
        let gate = Self { open: Arc::new(watch::Sender::new(true)), dead: Arc::default() };
        let (open, dead) = (gate.open.clone(), gate.dead.clone());
        spawn("gate", async move {
            while let Ok((near, _)) = listener.accept().await {
                spawn("carry", carry(near, format!("127.0.0.1:{port}"), open.subscribe(), dead.clone()));
            }
        });
        gate
    }

    fn cut(&self) {
        self.open.send_replace(false);
    }

    fn heal(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, to: String, mut open: watch::Receiver<bool>, dead: Arc<AtomicUsize>) {
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        () = async { drop(open.wait_for(|open| !*open).await) } => {
            dead.fetch_add(1, Ordering::Relaxed);
            // Neither stream is closed before the test ends.
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_catches_up_over_a_healed_cut_although_the_connections_to_it_are_dead() {
    let mut cluster = Cluster::of(3);
    cluster.places.iter_mut().for_each(|place| place.host = GATES);
    let mut gates = Vec::new();
    for place in &cluster.places {
        gates.push((Gate::before(&place.raft_address()).await, Gate::before(&place.client_address()).await));
    }
    cluster.run_all().await;
    cluster.init(0).await.expect("they all answer");
    let before = cluster.submit().await;
    let follower = cluster.follower().await;
    eventually("the first job", async || cluster.has_job(follower, before).then_some(())).await;

    gates[follower].0.cut();
    let missed = cluster.submit().await;
    eventually("dead connections", async || (gates[follower].0.dead.load(Ordering::Relaxed) > 0).then_some(())).await;
    gates[follower].0.heal();
    eventually("what it has missed", async || cluster.has_job(follower, missed).then_some(())).await;
    cluster.assert_equal_states().await;
}
