//! Threads end with the process that started them: in a child that was forked, work for them would wait for ever.

use std::process::id;
use std::sync::OnceLock;

use crate::{Error, Result};

/// Refuse work for the threads of another process.
///
/// # Errors
/// This process was forked after its parent had threads at work.
pub(crate) fn check_threads() -> Result<()> {
    static OWNER: OnceLock<u32> = OnceLock::new();
    if *OWNER.get_or_init(id) == id() {
        Ok(())
    } else {
        Err(Error::Forked)
    }
}
