//! The page at `/`: the queues as they live. It knows nothing but `/v1`, and may no more than its token does.

use kit::page::Page;

pub const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };

/// The part of the page that looks into one queue.
pub const ITEMS_SCRIPT: &str = include_str!("items.js");
