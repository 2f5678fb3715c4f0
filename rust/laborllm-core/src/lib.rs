//! Panels, resumes and title tries over Arrow: the pure Rust heart of `laborllm`.
//!
//! A stream of record batches goes through [`panel::check`] once and is a checked, sorted panel afterwards;
//! [`stream::Stream`] checks what is larger than memory, piece by piece. [`resume`] prints panels through a
//! [`template::Template`] as text, [`ids`] as token ids; [`pack`] puts whole careers into bins of one length;
//! [`trie::TitleTrie`] walks the token sequences of titles; [`tally`] counts what followed what. Nothing here knows Python or a tokenizer.

mod bin_form;
mod bins;
mod careers;
mod columns;
pub mod error;
mod factorise;
mod fragments;
#[doc(hidden)]
pub mod fuzz;
pub mod ids;
mod integers;
mod keys;
mod order;
pub mod pack;
pub mod panel;
mod pool;
mod printing;
#[doc(hidden)]
pub mod probe;
mod process;
mod radix;
pub mod resume;
mod segments;
pub mod shards;
pub mod stream;
pub mod tally;
pub mod template;
mod texts;
mod token_table;
pub mod trie;
mod windows;
mod workers;

pub use careers::{Panels, Renderer};
pub use error::{Error, Kind, Result};
