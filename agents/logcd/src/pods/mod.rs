//! Container logs: follows the logs that kubelet keeps below the pods directory, and archives them by
//! namespace and hour.

pub mod bounds;
pub mod config;
pub mod control;
pub mod cri;
pub mod cursor;
pub mod day_room;
pub mod followed_container;
pub mod followed_log;
pub mod hour;
pub mod hour_archive;
pub mod metrics;
pub mod newest_lines;
pub mod once;
pub mod overview;
pub mod page;
pub mod pending_member;
pub mod place;
pub mod read;
pub mod reload;
pub mod share;
pub mod store;
pub mod tailer;
pub mod veil;
pub mod watches;
