//! The agents' pages in a real Chromium: what is told, what can be done, and what strangers' text does there: nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent;
mod archives;
mod default_ports;
mod lines;
mod queues;
mod webdriver;

use webdriver::Browser;

/// What a stranger may write. A page that made markup of it would run it, and one of its characters would turn
/// the rest of the line around.
const HOSTILE: &str =
    "<script>window.broken=1</script><img src=x onerror='window.broken=1'>\"'>&lt;\u{1b}[31m\u{0}\u{202e}end";

/// Nothing of a stranger's was run, made into an element, or refused by the policy because it was tried.
fn assert_unharmed(browser: &Browser) {
    assert_eq!(browser.run("return window.broken ?? null"), serde_json::Value::Null);
    assert_eq!(browser.run("return document.querySelectorAll('main script, main img').length"), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Of both schemes and of a phone's and a desk's width, to be looked at by people: into `$SCREENSHOTS`, where that
/// is set. On no width is anything wider than the window.
fn pictures(browser: &Browser, name: &str) {
    for (width, height, device) in [(390, 844, "phone"), (1280, 900, "desk")] {
        browser.size(width, height);
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            browser.scheme(dark);
            let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
            let expected = if dark { "rgb(20, 23, 27)" } else { "rgb(251, 251, 250)" };
            assert_eq!(ground, expected);
            let picture = browser.picture();
            assert!(picture.starts_with(b"\x89PNG"));
            if let Ok(directory) = std::env::var("SCREENSHOTS") {
                std::fs::write(format!("{directory}/{name}-{device}-{scheme}.png"), picture).unwrap();
            }
        }
        let widest = browser.run("return document.documentElement.scrollWidth");
        assert!(widest.as_u64().unwrap() <= width.into(), "{widest} on {device}");
    }
}
