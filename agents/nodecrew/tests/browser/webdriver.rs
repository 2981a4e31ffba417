//! A headless Chromium, driven over WebDriver (JSON over HTTP). Only the calls that these tests need.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use trial::DEADLINE;

/// The protocol's name for a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Opens a window with a session of its own.
    pub(crate) fn open() -> Browser {
        let mut command = Command::new("chromedriver");
        let mut driver =
            command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port = lines
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver tells its port")));
        // Keep reading the driver's output, or a full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser { driver, address, session: String::new() };
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"];
        let answer = browser.post(
            "",
            &json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"browser": "ALL"},
            }}}),
        );
        browser.session = format!("/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    /// Opens an agent's page and waits until it receives live updates.
    pub(crate) fn live_at(agent: SocketAddr) -> Browser {
        let browser = Browser::open();
        browser.go(&format!("http://{agent}/"));
        browser.until_text("#state", "live");
        browser
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a JavaScript function and returns its value.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The visible text of the element.
    pub(crate) fn text(&self, css: &str) -> String {
        let element = format!("const e = document.querySelector({});", json!(css));
        let script = format!("{element} return e?.checkVisibility() ? e.innerText : ''");
        self.run(&script).as_str().unwrap().to_owned()
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": css}));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks as a mouse does: hidden or covered elements cannot be clicked.
    pub(crate) fn click(&self, css: &str) {
        self.post(&format!("/element/{}/click", self.element(css)), &json!({}));
    }

    /// Types as a keyboard does.
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let path = format!("/element/{}", self.element(css));
        self.post(&format!("{path}/clear"), &json!({}));
        self.post(&format!("{path}/value"), &json!({ "text": text }));
    }

    /// Sends keys to the element that has the focus.
    pub(crate) fn keys(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut(&Browser) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < DEADLINE, "in vain: {what}\n{}", self.text("body"));
        }
    }

    pub(crate) fn until_text(&self, css: &str, part: &str) {
        self.until(&format!("{part:?} in {css}"), |browser| browser.text(css).contains(part));
    }

    /// The errors that the browser logged: failed scripts, and everything that the page's policy forbade.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        let severe = entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn scheme(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    pub(crate) fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Returns a picture of the whole page as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let text = shot["data"].as_str().unwrap();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
        let path = format!("/session{}{path}", self.session);
        let answer = trial::Http::connect(self.address)?.call(method, &path, "", body.as_bytes())?;
        let object: Value = serde_json::from_slice(&answer.body)?;
        Ok((answer.status, object["value"].clone()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Close the session, or the browser would outlive its driver.
        let _ = self.ask("DELETE", "", "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
