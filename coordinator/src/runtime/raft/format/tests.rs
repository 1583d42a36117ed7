//! The durable bytes as golden values, and what happens to damaged ones.

use expect_test::{Expect, expect};
use tidemill_model::id::{JobId, JobVertexId, LeaderEpoch};
use tidemill_model::job_graph::{CoLocationGroup, JobVertex, OperatorDescriptor, Partitioning, SlotSharingGroup};
use tidemill_model::time::Timestamp;
use uuid::Uuid;

use super::*;
use crate::engine::replicated::CommandBody;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check<T>(value: &T, golden: &Expect)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let sealed = seal(value);
    golden.assert_eq(&hex(&sealed));
    assert_eq!(&open::<T>("value", &sealed).expect("it opens"), value);
}

fn membership() -> DurableMembership {
    let member = |name: &str| Member {
        name: name.into(),
        raft_address: format!("{name}:6124"),
        client_address: format!("{name}:6123"),
    };
    DurableMembership {
        configs: vec![BTreeSet::from([1, 2])],
        nodes: BTreeMap::from([(1, member("a")), (2, member("b"))]),
    }
}

#[test]
fn the_bytes_of_an_owner_are_golden() {
    let owner = DurableOwner { cluster: ClusterId(Uuid::from_u128(0x1234)), node: NodeId(2) };
    check(&owner, &expect!["69cff0ea01100000000000000000000000000000123402"]);
}

#[test]
fn the_bytes_of_a_vote_are_golden() {
    check(&DurableVote { term: 300, node: 2, committed: true }, &expect!["ba4afe6a01ac020201"]);
}

#[test]
fn the_bytes_of_a_blank_entry_are_golden() {
    check(
        &DurableEntry { id: DurableLogId { term: 1, index: 9 }, payload: DurablePayload::Blank },
        &expect!["49f8690701010900"],
    );
}

#[test]
fn the_bytes_of_a_command_entry_are_golden() {
    let command = Command {
        epoch: LeaderEpoch(7),
        stamp: Timestamp(1_700_000_000_000),
        body: CommandBody::CancelJob { job: JobId(Uuid::from_u128(0xabcd)) },
    };
    check(
        &DurableEntry { id: DurableLogId { term: 4, index: 1000 }, payload: DurablePayload::Command(command) },
        &expect!["504639b20104e807010780d095ffbc3103100000000000000000000000000000abcd"],
    );
}

#[test]
fn the_bytes_of_vertices_and_partitionings_are_golden() {
    let vertex = |id, group: Option<&str>| JobVertex {
        id: JobVertexId(id),
        operators: vec![OperatorDescriptor { name: "Map".into(), uid: "m".into() }],
        parallelism: 2,
        max_parallelism: 128,
        record_types: vec!["u64".into()],
        slot_sharing_group: group.map_or_else(SlotSharingGroup::default, |name| SlotSharingGroup(name.into())),
        co_location_group: group.map(|name| CoLocationGroup(name.into())),
    };
    check(&vertex(0, None), &expect!["be193326010001034d6170016d02800101037536340764656661756c7400"]);
    check(&vertex(1, Some("g")), &expect!["f1190e24010101034d6170016d02800101037536340167010167"]);
    let partitionings = vec![
        Partitioning::Forward,
        Partitioning::Hash,
        Partitioning::Rebalance,
        Partitioning::Rescale,
        Partitioning::Shuffle,
        Partitioning::Broadcast,
        Partitioning::Global,
        Partitioning::Custom,
    ];
    check(&partitionings, &expect!["5a1816a601080001020304050607"]);
}

#[test]
fn the_bytes_of_a_membership_entry_are_golden() {
    let payload = DurablePayload::Membership(membership());
    check(
        &DurableEntry { id: DurableLogId { term: 1, index: 0 }, payload },
        &expect!["f676309b01010002010201020201016106613a3631323406613a3631323302016206623a3631323406623a36313233"],
    );
}

#[test]
fn the_bytes_of_a_snapshots_description_are_golden() {
    let id = DurableLogId { term: 2, index: 77 };
    let meta = DurableSnapshotMeta { last_log_id: Some(id), membership_log_id: None, membership: membership() };
    check(
        &meta,
        &expect!["7956c8e20101024d00010201020201016106613a3631323406613a3631323302016206623a3631323406623a36313233"],
    );
}

#[test]
fn openrafts_types_round_trip_through_the_durable_ones() {
    let entry =
        DurableEntry { id: DurableLogId { term: 3, index: 5 }, payload: DurablePayload::Membership(membership()) };
    let restored = entry.clone().restore().expect("a sound membership");
    assert_eq!(DurableEntry::from(&restored), entry);

    let vote = DurableVote { term: 3, node: 1, committed: false };
    assert_eq!(DurableVote::from(&Vote::from(vote)), vote);

    let meta = DurableSnapshotMeta {
        last_log_id: Some(entry.id),
        membership_log_id: Some(entry.id),
        membership: membership(),
    };
    assert_eq!(DurableSnapshotMeta::from(&meta.clone().restore().expect("sound")), meta);
    let empty = DurableSnapshotMeta::default();
    assert_eq!(DurableSnapshotMeta::from(&empty.clone().restore().expect("sound")), empty);
}

#[test]
fn a_flipped_bit_and_a_cut_value_are_refused() {
    let sealed = seal(&DurableVote { term: 300, node: 2, committed: true });
    for index in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[index] ^= 0x10;
        let error = open::<DurableVote>("vote", &damaged).expect_err("damaged");
        assert!(matches!(error, Error::Checksum { what: "vote", .. }), "byte {index}: {error}");
        assert!(open::<DurableVote>("vote", &sealed[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn a_voter_without_an_address_is_refused() {
    let mut broken = membership();
    broken.nodes.remove(&2);
    let entry = DurableEntry { id: DurableLogId { term: 1, index: 1 }, payload: DurablePayload::Membership(broken) };
    assert!(matches!(entry.restore(), Err(Error::Membership { .. })));
}
