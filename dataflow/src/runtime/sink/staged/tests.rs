//! What staging and publishing leave on disk, also when they are interrupted or repeated.

use std::io::Write;

use expect_test::expect;
use tidemill_model::execution::FailureKind;

use super::*;
use crate::runtime::sink::durable::record;

fn job(number: u8) -> JobId {
    format!("{number:032x}").parse().unwrap()
}

const FIRST: AttemptNumber = AttemptNumber(0);

fn output(folder: &Path, overwrite: bool) -> StagedOutput {
    StagedOutput { path: folder.join("out"), overwrite }
}

fn stage(output: &StagedOutput, job: JobId, attempt: AttemptNumber, parts: &[&str]) {
    for (index, text) in (0u32..).zip(parts) {
        let (_, mut file) = output.open_part(job, attempt, SubtaskIndex(index)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// Every file under a folder with its text, but for the folder's own path.
fn tree(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            files.extend(tree(&entry.path()).into_iter().map(|file| format!("{name}/{file}")));
        } else {
            files.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_commit_publishes_its_attempt_only_and_may_be_repeated() {
    for parts in [&["a"][..], &["a", "b"]] {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path(), false);
        stage(&output, job(1), FIRST, &["old", "old", "old"]);
        stage(&output, job(1), FIRST.next(), parts);
        stage(&output, job(2), FIRST, &["other job"]);
        let attempts = vec![FIRST.next(); parts.len()];
        let published: &[&str] = if parts.len() == 1 { &["out=a"] } else { &["out/1=a", "out/2=b"] };
        let other = format!(".out.tidemill-{}-0/1=other job", job(2));
        for _ in 0..3 {
            output.commit(job(1), &attempts).unwrap();
            let mut expected = vec![other.clone()];
            expected.extend(published.iter().map(|&file| file.to_owned()));
            assert_eq!(tree(folder.path()), expected);
        }
        output.abort(job(2)).unwrap();
        assert_eq!(tree(folder.path()), published);
    }
}

#[test]
fn overwriting_replaces_files_and_folders_by_either_and_may_be_repeated() {
    for (old, new) in [(1, 1), (1, 2), (2, 1), (3, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path(), true);
        stage(&output, job(1), FIRST, &["x", "x", "x"][..old]);
        output.commit(job(1), &vec![FIRST; old]).unwrap();
        stage(&output, job(2), FIRST, &["a", "b"][..new]);
        let published: &[&str] = if new == 1 { &["out=a"] } else { &["out/1=a", "out/2=b"] };
        for _ in 0..3 {
            output.commit(job(2), &vec![FIRST; new]).unwrap();
            assert_eq!(tree(folder.path()), published, "{old} -> {new}");
        }
    }
}

#[test]
fn a_commit_that_was_interrupted_after_its_exchange_does_not_undo_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path(), true);
    // What is on disk between the exchange and the removal of the old content: folder by folder.
    let assembly = output.places().unwrap().assembly(job(2));
    fs::create_dir_all(&assembly).unwrap();
    fs::write(assembly.join("1"), "old").unwrap();
    fs::create_dir_all(&output.path).unwrap();
    for (name, text) in [("1", "new"), ("2", "new"), (&format!(".tidemill-{}", job(2)), "")] {
        fs::write(output.path.join(name), text).unwrap();
    }
    output.commit(job(2), &[FIRST, FIRST]).unwrap();
    assert_eq!(tree(folder.path()), ["out/1=new", "out/2=new"]);

    // Folder by file.
    fs::remove_dir_all(&output.path).unwrap();
    fs::write(&output.path, "new").unwrap();
    name_job(&output.path, job(3));
    let staging = output.places().unwrap().staging(job(3), FIRST);
    fs::create_dir_all(staging.join("1")).unwrap();
    fs::write(staging.join("1/1"), "old").unwrap();
    output.commit(job(3), &[FIRST]).unwrap();
    assert_eq!(tree(folder.path()), ["out=new"]);
}

#[test]
fn a_commit_publishes_the_named_attempt_of_each_sub_task_and_drops_all_others() {
    for overwrite in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path(), overwrite);
        let [second, third] = [FIRST.next(), FIRST.next().next()];
        stage(&output, job(1), FIRST, &["a0", "b0", "c0"]);
        stage(&output, job(1), second, &["a1", "b1"]);
        stage(&output, job(1), third, &["a2"]);
        for _ in 0..3 {
            output.commit(job(1), &[third, FIRST, FIRST]).unwrap();
            assert_eq!(tree(folder.path()), ["out/1=a2", "out/2=b0", "out/3=c0"]);
        }
    }
}

/// What a crash leaves between two steps of the commit of parts 1 and 2, of attempts 1 and 0.
type Interruption = fn(&StagedOutput, &Places);

#[test]
fn a_commit_that_was_interrupted_anywhere_is_taken_up_by_whoever_repeats_it() {
    let assemble = |places: &Places, part: &str, attempt: AttemptNumber| {
        fs::create_dir_all(places.assembly(job(1))).unwrap();
        fs::rename(places.staging(job(1), attempt).join(part), places.assembly(job(1)).join(part)).unwrap();
    };
    let none: Interruption = |_, _| {};
    let first_part: Interruption = |_, places| {
        fs::create_dir_all(places.assembly(job(1))).unwrap();
        fs::rename(places.staging(job(1), FIRST.next()).join("1"), places.assembly(job(1)).join("1")).unwrap();
    };
    let mark: Interruption = |_, places| {
        File::create(places.assembly(job(1)).join(format!(".tidemill-{}", job(1)))).unwrap();
    };
    let publish: Interruption = |output, places| {
        name_job(&places.assembly(job(1)), job(1));
        let flags = if output.path.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        output.rename(&places.assembly(job(1)), flags).unwrap();
    };
    let drop_old: Interruption = |_, places| remove_all(vec![places.assembly(job(1))]).unwrap();
    let drop_one: Interruption = |_, places| remove_all(vec![places.staging(job(1), FIRST)]).unwrap();
    let steps: [(&str, &[Interruption]); 6] = [
        ("nothing done", &[none]),
        ("one part moved", &[first_part]),
        ("marked", &[mark]),
        ("published", &[mark, publish]),
        ("old content gone", &[mark, publish, drop_old]),
        ("one attempt's folder gone", &[mark, publish, drop_old, drop_one]),
    ];
    for overwrite in [false, true] {
        for (step, interruptions) in steps {
            let folder = tempfile::tempdir().unwrap();
            let output = output(folder.path(), overwrite);
            let places = output.places().unwrap();
            if overwrite {
                stage(&output, job(7), FIRST, &["old", "old", "old"]);
                output.commit(job(7), &[FIRST; 3]).unwrap();
            }
            stage(&output, job(1), FIRST, &["a0", "b0"]);
            stage(&output, job(1), FIRST.next(), &["a1", "b1"]);
            if step != "nothing done" && step != "one part moved" {
                assemble(&places, "1", FIRST.next());
                assemble(&places, "2", FIRST);
            }
            interruptions.iter().for_each(|interrupt| interrupt(&output, &places));
            for repetition in 0..2 {
                output.commit(job(1), &[FIRST.next(), FIRST]).unwrap();
                assert_eq!(
                    tree(folder.path()),
                    ["out/1=a1", "out/2=b0"],
                    "{step}, overwrite {overwrite}, {repetition}"
                );
            }
        }
    }
}

#[test]
fn a_part_of_another_attempt_does_not_stand_in_for_the_named_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path(), false);
    stage(&output, job(1), FIRST, &["a0", "b0"]);
    stage(&output, job(1), FIRST.next(), &["a1"]);
    let error = output.commit(job(1), &[FIRST, FIRST.next()]).unwrap_err();
    assert!(matches!(error, Error::MissingParts { found: 1, wanted: 2, .. }), "{error}");
    output.abort(job(1)).unwrap();
    assert_eq!(tree(folder.path()), Vec::<String>::new());
}

#[test]
fn an_output_that_appears_during_the_job_is_not_replaced() {
    for parts in [&["a"][..], &["a", "b"]] {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path(), false);
        stage(&output, job(1), FIRST, parts);
        fs::write(&output.path, "somebody else's").unwrap();
        let error = output.commit(job(1), &vec![FIRST; parts.len()]).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_eq!(error.kind(), FailureKind::InvalidInput);
        output.abort(job(1)).unwrap();
        assert_eq!(tree(folder.path()), ["out=somebody else's"]);
    }
}

#[test]
fn a_commit_without_all_parts_says_how_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path(), false);
    let error = output.commit(job(1), &[FIRST]).unwrap_err();
    assert!(matches!(error, Error::MissingParts { found: 0, wanted: 1, .. }), "{error}");
    stage(&output, job(1), FIRST, &["a"]);
    let error = output.commit(job(1), &[FIRST; 3]).unwrap_err();
    assert!(matches!(error, Error::MissingParts { found: 1, wanted: 3, .. }), "{error}");
    assert!(error.to_string().contains("1 of 3 parts"), "{error}");
}

#[test]
fn an_abort_is_harmless_when_there_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = StagedOutput { path: folder.path().join("no/such/out"), overwrite: false };
    output.abort(job(1)).unwrap();
    stage(&output, job(1), FIRST, &["a"]);
    output.abort(job(1)).unwrap();
    output.abort(job(1)).unwrap();
    assert_eq!(tree(&folder.path().join("no/such")), Vec::<String>::new());
}

#[test]
fn a_path_without_a_name_is_refused() {
    let output = StagedOutput { path: "..".into(), overwrite: true };
    assert!(output.abort(job(1)).unwrap_err().to_string().contains("no file name"));
}

#[test]
fn an_output_appears_under_its_name_when_its_parts_have_theirs_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path(), false);
    stage(&output, job(1), FIRST, &["a", "b"]);
    record::take(folder.path());
    output.commit(job(1), &[FIRST; 2]).unwrap();
    expect![[r#"
        rename .out.tidemill-00000000000000000000000000000001-0/1 to .out.tidemill-00000000000000000000000000000001-commit/1
        rename .out.tidemill-00000000000000000000000000000001-0/2 to .out.tidemill-00000000000000000000000000000001-commit/2
        sync folder .out.tidemill-00000000000000000000000000000001-commit
        rename .out.tidemill-00000000000000000000000000000001-commit to out
        sync folder
        sync folder
    "#]].assert_eq(&record::take(folder.path()));
}
