//! The stream of requests to a follower, in which the news of a commit travels with the entries that follow it.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::types::AppendEntriesRequest;

/// How long the news that entries are committed waits for others to travel with. A follower only applies them that much
/// later, and a linearizable read there waits for it; every client that writes one thing after the other saves a message,
/// its answer and what wakes up for both.
const HELD_BACK: Duration = Duration::from_millis(2);

/// Requests without entries wait for the next one, which says all that they say, and are not sent when it comes in time.
///
/// Openraft takes answers by what they confirm, not by their number, and counts an answer as one to the oldest request
/// that it confirms: what is left out makes no leader believe that its lease is younger than it is.
pub(super) fn with_later_entries<S>(requests: S) -> impl Stream<Item = AppendEntriesRequest>
where
    S: Stream<Item = AppendEntriesRequest> + Unpin,
{
    // Its end may be seen while a request is held back, and openraft's must not be polled again then.
    stream::unfold(requests.fuse(), |mut requests| async {
        let mut request = requests.next().await?;
        let until = Instant::now() + HELD_BACK;
        while request.entries.is_empty() {
            let Ok(Some(next)) = timeout_at(until, requests.next()).await else { break };
            request = next;
        }
        Some((request, requests))
    })
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    use super::super::types::{Committed, Entry, LogId, Vote};
    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(Committed::new(1), index)
    }

    /// What is committed, and which entries follow.
    fn request(committed: u64, entries: &[u64]) -> AppendEntriesRequest {
        let prev = entries.first().map_or(9, |first| first - 1);
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(prev)),
            entries: entries.iter().map(|&index| Entry::new(id(index), EntryPayload::Blank)).collect(),
            leader_commit: Some(id(committed)),
        }
    }

    fn text(request: &AppendEntriesRequest) -> String {
        let entries: Vec<u64> = request.entries.iter().map(|entry| entry.log_id.index()).collect();
        format!("{} {entries:?}", request.leader_commit.map_or(0, |id| id.index()))
    }

    #[tokio::test]
    async fn news_of_a_commit_travels_with_the_entries_that_follow_in_time() {
        let requests = [request(4, &[5]), request(5, &[]), request(5, &[6, 7]), request(6, &[]), request(7, &[])];
        let sent: Vec<_> = with_later_entries(stream::iter(requests)).map(|request| text(&request)).collect().await;
        assert_eq!(sent, ["4 [5]", "5 [6, 7]", "7 []"]);
    }

    #[tokio::test]
    async fn requests_that_end_while_one_is_held_back_are_not_asked_for_more() {
        let requests = stream::unfold(vec![request(5, &[])], async |mut left| Some((left.pop()?, left)));
        let sent: Vec<_> = with_later_entries(Box::pin(requests)).map(|request| text(&request)).collect().await;
        assert_eq!(sent, ["5 []"], "an unfolded stream panics when it is polled after its end");
    }

    #[tokio::test]
    async fn news_of_a_commit_does_not_wait_for_ever() {
        let (sender, requests) = mpsc::unbounded();
        let mut sent = Box::pin(with_later_entries(requests));
        let begun = Instant::now();
        sender.unbounded_send(request(5, &[])).expect("open");
        assert_eq!(sent.next().await.map(|request| text(&request)).as_deref(), Some("5 []"));
        assert!(begun.elapsed() >= HELD_BACK);
        drop(sender);
        assert!(sent.next().await.is_none());
    }
}
