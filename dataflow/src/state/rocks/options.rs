//! How RocksDB is set up for state.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options, WriteOptions};

/// The bits of the filters for each key: one look-up in a hundred of what is not there reads a block.
const FILTER_BITS: f64 = 10.0;

/// The size of blocks: a look-up reads one.
const BLOCK_BYTES: usize = 4 * 1024;

/// The size of files: what an upload takes into memory, and the least that a changed key makes new.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

/// When the list of files is begun anew: it goes into every checkpoint.
const MANIFEST_BYTES: usize = 256 * 1024;

/// How many files are held open.
const OPEN_FILES: i32 = 256;

/// How many write buffers there may be.
const WRITE_BUFFERS: i32 = 2;

/// The part of a sub-task's memory that decoded entries may take; write buffers have a quarter and blocks another one.
pub(super) fn cache_bytes(memory_bytes: usize) -> usize {
    memory_bytes / 2
}

/// The options of a store with this much memory.
pub(super) fn options(memory_bytes: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(memory_bytes / 4));
    blocks.set_bloom_filter(FILTER_BITS, false);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.create_if_missing(true);
    options.set_write_buffer_size(memory_bytes / 4 / WRITE_BUFFERS.unsigned_abs() as usize);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options
}

/// Writes go to memory and, sooner or later, into files.
pub(super) fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}
