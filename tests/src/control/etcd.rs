//! Three members of etcd on this machine's disk, and puts to their leader.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::cluster::until;

/// etcd's `PutRequest`: key and value are all that a put needs.
#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// An answer of which nothing is read, or a request without a field.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// etcd's `ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// etcd's `StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// The members; killed when dropped.
pub(super) struct Etcd {
    members: Vec<Child>,
    leader: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that has ended is what we want.
            drop(member.kill().and_then(|()| member.wait()));
        }
    }
}

impl Etcd {
    /// Starts three members with etcd's own defaults; none when etcd is not installed.
    pub(super) async fn start(dir: &Path) -> Result<Option<Self>> {
        let there = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            return Ok(None);
        }
        let addresses = free_ports(6)?;
        let (clients, peers) = addresses.split_at(3);
        let all: Vec<String> = (0..3).map(|index| format!("m{index}={}", peers[index])).collect();
        let mut members = Vec::new();
        for index in 0..3 {
            let log = File::create(dir.join(format!("m{index}.log")))?;
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{index}"), "--data-dir"]).arg(dir.join(format!("m{index}")));
            for (option, value) in [
                ("--listen-client-urls", &clients[index]),
                ("--advertise-client-urls", &clients[index]),
                ("--listen-peer-urls", &peers[index]),
                ("--initial-advertise-peer-urls", &peers[index]),
                ("--initial-cluster", &all.join(",")),
            ] {
                command.args([option, value]);
            }
            members.push(command.stdout(log.try_clone()?).stderr(log).spawn().context("start etcd")?);
        }
        let mut etcd = Self { members, leader: String::new() };
        etcd.leader = until("etcd has a leader", || leader(clients)).await?;
        Ok(Some(etcd))
    }

    /// A client of the leader, with a connection of its own.
    pub(super) fn client(&self) -> Result<Client> {
        Client::of(&self.leader)
    }
}

async fn leader(clients: &[String]) -> Option<String> {
    for address in clients {
        let Ok(mut client) = Client::of(address) else { continue };
        let status: Result<Status, _> = client.call("/etcdserverpb.Maintenance/Status", Nothing {}).await;
        if let Ok(Status { header: Some(header), leader }) = status
            && leader != 0
            && leader == header.member
        {
            return Some(address.clone());
        }
    }
    None
}

/// URLs of ports that nobody has now.
fn free_ports(count: usize) -> Result<Vec<String>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(format!("http://{}", listener.local_addr()?))).collect()
}

/// One connection to one member.
pub(super) struct Client(Grpc<Channel>);

impl Client {
    fn of(url: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).timeout(Duration::from_secs(30));
        Ok(Self(Grpc::new(endpoint.connect_lazy())))
    }

    /// Puts a value; answered when a majority has it on its disks.
    pub(super) async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), tonic::Status> {
        let _: Nothing = self.call("/etcdserverpb.KV/Put", Put { key, value }).await?;
        Ok(())
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.0.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }
}
