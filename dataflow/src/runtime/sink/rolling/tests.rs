//! When parts appear, what is left of them, and in which order they get on the disk.

use expect_test::expect;

use super::*;
use crate::known_bug;
use crate::runtime::sink::durable::record;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn parts(output: &RollingOutput, attempt: u32) -> RollingParts {
    let job = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
    RollingParts::open(output, (job, AttemptNumber(attempt), SubtaskIndex(3))).unwrap()
}

#[test]
fn a_part_appears_when_it_is_large_or_old_enough_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let output = RollingOutput { folder: folder.path().join("out"), bytes: 4, interval: Duration::from_millis(10) };
    let mut parts = parts(&output, 0);
    parts.write(b"ab\n", 100).unwrap();
    assert!(names(&output.folder)[0].starts_with(".part-3-0.tidemill-"));
    parts.write(b"c\n", 101).unwrap();
    assert_eq!(names(&output.folder), ["part-3-0"]);
    parts.write(b"d\n", 102).unwrap();
    assert_eq!(parts.due_at(), Some(112));
    parts.roll_if_due(111).unwrap();
    assert_eq!(names(&output.folder).len(), 2);
    parts.roll_if_due(112).unwrap();
    parts.write(b"e\n", 113).unwrap();
    parts.roll().unwrap();
    parts.roll().unwrap();
    assert_eq!(names(&output.folder), ["part-3-0", "part-3-1", "part-3-2"]);
    assert_eq!(fs::read(output.folder.join("part-3-0")).unwrap(), b"ab\nc\n");
}

#[test]
fn a_later_attempt_goes_on_with_the_numbers_and_clears_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let output = RollingOutput { folder: folder.path().to_owned(), bytes: 4, interval: Duration::from_secs(10) };
    let mut first = parts(&output, 0);
    first.write(b"whole\n", 0).unwrap();
    first.write(b"x\n", 0).unwrap();
    drop(first);
    fs::write(folder.path().join(".part-3-9.of-somebody-else"), "").unwrap();
    let mut second = parts(&output, 1);
    assert_eq!(names(folder.path()), [".part-3-9.of-somebody-else", "part-3-0"]);
    fs::write(folder.path().join("part-3-1"), "of somebody else").unwrap();
    second.write(b"again\n", 0).unwrap();
    assert_eq!(fs::read(folder.path().join("part-3-2")).unwrap(), b"again\n");
    second.write(b"y\n", 0).unwrap();
    output.remove_unfinished("0190f3a1b2c37d4e8f00112233445566".parse().unwrap()).unwrap();
    assert_eq!(names(folder.path()), [".part-3-9.of-somebody-else", "part-3-0", "part-3-1", "part-3-2"]);
}

#[test]
fn with_checkpoints_a_part_appears_with_the_one_it_waits_for_and_what_no_checkpoint_knows_goes() {
    let folder = tempfile::tempdir().unwrap();
    let output = RollingOutput { folder: folder.path().to_owned(), bytes: 4, interval: Duration::from_secs(10) };
    let job = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
    let open = |attempt, restored| {
        let id = (job, AttemptNumber(attempt), SubtaskIndex(3));
        RollingParts::open_transactional(&output, id, restored).unwrap()
    };
    let visible = || {
        let parts = names(folder.path()).into_iter().filter(|name| name.starts_with("part-"));
        parts.map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect::<Vec<_>>()
    };
    let mut first = open(0, Vec::new());
    first.write(b"one\n", 0).unwrap();
    first.prepare(Some(1)).unwrap();
    first.write(b"two\n", 0).unwrap();
    first.write(b"2", 0).unwrap();
    first.prepare(Some(2)).unwrap();
    assert_eq!(visible(), Vec::<String>::new());
    first.commit(1).unwrap();
    assert_eq!(visible(), ["one\n"]);
    let second_checkpoint = first.state().unwrap();
    first.write(b"three\n", 0).unwrap();
    first.prepare(Some(3)).unwrap();
    let mut second = open(1, vec![second_checkpoint.clone()]);
    assert_eq!(visible(), ["one\n", "two\n", "2"]);
    assert_eq!(names(folder.path()).len(), 3);
    // Whoever committed may do so again.
    assert_eq!(
        second_checkpoint.prepared.iter().try_for_each(|parts| PreparedPart::commit_all(parts)).map_err(drop),
        Ok(())
    );
    second.write(b"3", 0).unwrap();
    second.prepare(None).unwrap();
    let last = second.state().unwrap();
    fs::remove_file(folder.path().join(names(folder.path()).first().unwrap())).unwrap();
    let lost = last.prepared.iter().try_for_each(|parts| PreparedPart::commit_all(parts)).unwrap_err();
    assert!(matches!(lost, Error::LostPart { .. }), "{lost}");
}

#[test]
fn no_part_is_renamed_before_it_is_on_the_disk() {
    known_bug::put_back();
    let folder = tempfile::tempdir().unwrap();
    let output = RollingOutput { folder: folder.path().join("out"), bytes: 4, interval: Duration::from_secs(10) };
    let job = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
    let mut parts =
        RollingParts::open_transactional(&output, (job, AttemptNumber(0), SubtaskIndex(3)), Vec::new()).unwrap();
    parts.write(b"x", 0).unwrap();
    parts.prepare(Some(1)).unwrap();
    parts.commit(1).unwrap();
    expect![[r"
        sync folder
        sync file out/.part-3-0.tidemill-0190f3a1b2c37d4e8f00112233445566-0
        sync folder out
        rename out/.part-3-0.tidemill-0190f3a1b2c37d4e8f00112233445566-0 to out/part-3-0
        sync folder out
    "]]
    .assert_eq(&record::take(folder.path()));
    let mut at_once = RollingParts::open(&output, (job, AttemptNumber(1), SubtaskIndex(3))).unwrap();
    at_once.write(b"whole\n", 0).unwrap();
    expect![[r"
        sync file out/.part-3-1.tidemill-0190f3a1b2c37d4e8f00112233445566-1
        rename out/.part-3-1.tidemill-0190f3a1b2c37d4e8f00112233445566-1 to out/part-3-1
        sync folder out
    "]]
    .assert_eq(&record::take(folder.path()));
}
