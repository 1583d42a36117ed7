//! Real files, whole and damaged.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::CheckpointStorage;

fn storage() -> (TempDir, JobStorage, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let job = "0190f3a1b2c37d4e8f00112233445566".parse().unwrap();
    let storage = CheckpointStorage::open(&format!("file://{}", folder.path().display())).unwrap().job(job);
    let path = folder.path().join("0190f3a1b2c37d4e8f00112233445566");
    (folder, storage, path)
}

async fn write(storage: &JobStorage, path: &str, parts: &[&[u8]]) -> StateHandle {
    let mut writer = storage.create(path).await.unwrap();
    let mut all = Vec::new();
    for part in parts {
        assert_eq!(writer.position(), all.len() as u64);
        writer.write(Bytes::copy_from_slice(part)).await.unwrap();
        all.extend_from_slice(part);
    }
    let length = writer.finish().await.unwrap();
    assert_eq!(length, all.len() as u64);
    StateHandle::File { path: path.to_owned(), offset: 0, length, checksum: crc32fast::hash(&all) }
}

#[tokio::test]
async fn what_was_written_is_read_as_a_whole_and_in_ranges() {
    let (_folder, storage, _) = storage();
    let large = vec![7; 20 * 1024 * 1024];
    let whole = write(&storage, "7/process", &[b"first", &large, b"last"]).await;
    assert_eq!(storage.read(&whole).await.unwrap().len(), large.len() + 9);
    let path = "7/process".to_owned();
    let range = StateHandle::File { path, offset: 1, length: 3, checksum: crc32fast::hash(b"irs") };
    assert_eq!(storage.read(&range).await.unwrap(), b"irs".as_slice());
    assert_eq!(storage.read(&StateHandle::Inline(vec![1, 2])).await.unwrap(), [1, 2].as_slice());
    assert_eq!(storage.list().await.unwrap(), [("7/process".to_owned(), large.len() as u64 + 9)]);
}

#[tokio::test]
async fn a_file_that_is_missing_truncated_or_damaged_is_named() {
    let (_folder, storage, path) = storage();
    let handle = write(&storage, "7/process", &[b"content"]).await;
    let file = path.join("7/process");
    fs::write(&file, b"Content").unwrap();
    let error = storage.read(&handle).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { file, .. } if file.ends_with("7/process")), "{error}");
    for short in [b"conten".as_slice(), b""] {
        fs::write(&file, short).unwrap();
        let error = storage.read(&handle).await.unwrap_err();
        assert!(matches!(&error, Error::Truncated { file, end: 7 } if file.ends_with("7/process")), "{error}");
        assert!(!error.is_transient());
    }
    fs::remove_file(&file).unwrap();
    let error = storage.read(&handle).await.unwrap_err();
    assert!(matches!(&error, Error::Missing { file } if file.ends_with("7/process")), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_finished_does_not_appear() {
    let (_folder, storage, _) = storage();
    let mut writer = storage.create("7/process").await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(storage.list().await.unwrap(), []);
    drop(writer);
    assert_eq!(storage.list().await.unwrap(), []);
}

#[tokio::test]
async fn deleting_may_be_repeated_and_takes_empty_folders_along() {
    let (_folder, storage, path) = storage();
    for file in ["7/a", "7/b", "8/a"] {
        write(&storage, file, &[b"x"]).await;
    }
    let paths = ["7/a".to_owned(), "7/b".to_owned(), "9/never".to_owned()];
    storage.delete(&paths).await.unwrap();
    storage.delete(&paths).await.unwrap();
    assert_eq!(storage.list().await.unwrap(), [("8/a".to_owned(), 1)]);
    assert!(!path.join("7").exists());
}

#[tokio::test]
async fn what_a_process_that_died_was_writing_is_found_and_deleted() {
    let (_folder, storage, path) = storage();
    write(&storage, "7/a", &[b"x"]).await;
    let mut writer = storage.create("7/b").await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    let unfinished = storage.list_unfinished().await.unwrap();
    assert_eq!(unfinished.len(), 1, "{unfinished:?}");
    std::mem::forget(writer);
    storage.delete(&unfinished).await.unwrap();
    assert_eq!(storage.list_unfinished().await.unwrap(), Vec::<String>::new());
    assert_eq!(storage.list().await.unwrap(), [("7/a".to_owned(), 1)]);
    assert!(path.join("7/a").exists());
}

#[tokio::test]
async fn everything_of_a_job_goes_with_its_folder_and_nothing_of_another_one() {
    let (folder, storage, path) = storage();
    let neighbour = folder.path().join("0190f3a1b2c37d4e8f00112233445567");
    fs::create_dir(&neighbour).unwrap();
    for file in ["7/a", "last/b"] {
        write(&storage, file, &[b"x"]).await;
    }
    fs::write(path.join("7/unfinished#1"), "x").unwrap();
    storage.delete_all().await.unwrap();
    storage.delete_all().await.unwrap();
    assert!(!path.exists() && neighbour.exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_deleted_is_named_with_the_reason() {
    let (_folder, storage, path) = storage();
    fs::write(&path, "a file where the folder should be").unwrap();
    let error = storage.delete_all().await.unwrap_err();
    assert!(error.to_string().starts_with("delete file:///") && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_path_out_of_the_folder_is_refused() {
    let (_folder, storage, _) = storage();
    for path in ["", "..", "7/../../x", "/7", "7//a"] {
        let handle = StateHandle::File { path: path.to_owned(), offset: 0, length: 1, checksum: 0 };
        assert!(matches!(storage.read(&handle).await, Err(Error::Path { .. })), "{path:?}");
    }
}
