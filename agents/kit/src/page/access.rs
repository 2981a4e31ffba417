//! Decides who may see an agent's page: only this host, or with `--page-token` everybody who knows the token.
//!
//! A request through a proxy on this host arrives from loopback, wherever its client is. So with a token,
//! this host needs it too. Without a token, a request with a proxy's header is refused.

use crate::exit::{Exit, Fatal};
use crate::http::Peer;
use crate::http::origin::is_forwarded;
use crate::http::tokens::{self, same};
use axum::Router;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;
use tokio_rustls::rustls::crypto::ring;

/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Limit on the bytes of the token's file that are read.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// The length of a session's random identifier: 128 bits, as hard to guess as a key.
const SESSION_BYTES: usize = 16;

/// The way to open the page to other hosts; part of the flags of each agent with a page.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PageToken {
    /// Show the page only to clients that send the token in this file, from any host:
    /// `http://HOST:PORT/?token=TOKEN`
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub page_token: Option<PathBuf>,
}

/// Reads the token from a file. Fails if the file holds no usable token.
pub fn token_of(path: &Path) -> Result<String, Fatal> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let what = format!("cannot read {} (--page-token)", path.display());
        Fatal::new(Exit::Config, what).because(e)
    })?;
    let token = token_in(&text)
        .map_err(|why| Fatal::new(Exit::Config, format!("{} (--page-token): {why}", path.display())))?;
    Ok(token.to_owned())
}

impl PageToken {
    /// Reads the token if `--page-token` names a file. Otherwise only this host has access.
    pub fn load(&self) -> Result<Access, Fatal> {
        let Some(path) = &self.page_token else { return Ok(Access::default()) };
        let login = Login { token: token_of(path)?, session: random_word()? };
        let by_token = TokenAccess {
            path: path.clone(),
            cookie: format!("nodecrew-{}", random_word()?),
            state: Mutex::new(LoginState { login, is_usable: true }),
        };
        Ok(Access { by_token: Some(Arc::new(by_token)) })
    }
}

/// Returns the token: the first line, which may hold only characters that need no escape in a URL.
fn token_in(text: &str) -> Result<&str, &'static str> {
    let token = text.lines().next().unwrap_or_default().trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if token.len() < TOKEN_BYTES_MIN {
        Err("the token on its first line needs at least 16 characters; make one with: \
             od -An -N16 -tx1 /dev/urandom | tr -d ' '")
    } else if token.bytes().all(is_plain) {
        Ok(token)
    } else {
        Err("a token for a URL has only letters, digits, '-', '.', '_' and '~'")
    }
}

fn random_word() -> Result<String, Fatal> {
    let mut bytes = [0; SESSION_BYTES];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| Fatal::new(Exit::System, "the system provides no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Access to the page. By default only this host sees it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    by_token: Option<Arc<TokenAccess>>,
}

/// Access by token, from any host.
#[derive(Debug)]
struct TokenAccess {
    path: PathBuf,
    /// The cookie's name, different in each process: a browser shares cookies among all ports of a host.
    cookie: String,
    state: Mutex<LoginState>,
}

#[derive(Debug)]
struct LoginState {
    /// The login by the last usable token. While the file is being rewritten, it stays: if the token is the
    /// same afterwards, the sessions continue.
    login: Login,
    /// False while the file holds no usable token. Then every request is refused.
    is_usable: bool,
}

/// A token, and the session that it opens. A browser keeps only the session, since it sends its cookies to
/// every port of the host.
#[derive(Clone)]
struct Login {
    token: String,
    session: String,
}

impl Login {
    /// Returns the login for `token`: this one if the token is the same, otherwise one with a new session.
    fn by(self, token: String) -> Result<Login, String> {
        if self.token == token {
            return Ok(self);
        }
        let session = random_word().map_err(|error| error.one_line())?;
        Ok(Login { token, session })
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// The decision about a request for the page.
#[derive(Debug)]
enum AccessDecision {
    Allowed,
    /// The token was in the address: redirect to the address without it, and set this cookie.
    LoggedIn {
        cookie: String,
    },
    Refused(StatusCode, String),
}

impl Access {
    /// Refuses requests for the page's routes from clients that may not see the page.
    ///
    /// A page shows more than metrics do: peers, names of files, even lines. By default only this host may
    /// see it, and whoever connects from this host, such as `kubectl port-forward`. It must be opened by
    /// address or as localhost. Otherwise a site whose name resolves to 127.0.0.1 could read it through its
    /// visitors' browsers.
    pub fn guard(self, router: Router) -> Router {
        router.route_layer(axum::middleware::from_fn(move |request: Request, next: Next| {
            let access = self.clone();
            let (head, body) = request.into_parts();
            async move {
                match access.judge(&head).await {
                    AccessDecision::Allowed => next.run(Request::from_parts(head, body)).await,
                    AccessDecision::LoggedIn { cookie } => logged_in(cookie),
                    AccessDecision::Refused(status, why) => (status, why).into_response(),
                }
            }
        }))
    }

    async fn judge(&self, head: &Parts) -> AccessDecision {
        let peer = head.extensions.get::<Peer>().map(|Peer(peer)| peer.ip().to_canonical());
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if let Some(by_token) = &self.by_token {
            return by_token.judge(head).await;
        }
        let visitor = match peer {
            _ if is_forwarded(&head.headers) => Visitor::ByProxy,
            Some(peer) if !peer.is_loopback() => Visitor::From(peer),
            _ => Visitor::Here,
        };
        if visitor == Visitor::Here && peer.is_some() && host.is_some_and(is_address) {
            return AccessDecision::Allowed;
        }
        AccessDecision::Refused(StatusCode::FORBIDDEN, closed(visitor))
    }
}

impl TokenAccess {
    async fn judge(&self, head: &Parts) -> AccessDecision {
        let Some(login) = self.login().await else {
            let why = "The file of --page-token holds no usable token now; the agent's log says why.\n";
            return AccessDecision::Refused(StatusCode::UNAUTHORIZED, why.to_owned());
        };
        let headers = &head.headers;
        let session = cookies(headers).find_map(|(name, value)| (name == self.cookie).then_some(value));
        if bearer(headers).is_some_and(|token| same(token, &login.token))
            || session.is_some_and(|session| same(session, &login.session))
        {
            return AccessDecision::Allowed;
        }
        if asked_with(head).is_some_and(|token| same(token, &login.token)) {
            // Lax, so that a link in a chat opens the page. No request to the page changes anything.
            let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Lax", self.cookie, login.session);
            return AccessDecision::LoggedIn { cookie };
        }
        let how = "This page needs its token: open http://HOST:PORT/?token=TOKEN, or send it as a bearer token.\n\
                   TOKEN is the first line of the file that --page-token names.\n";
        AccessDecision::Refused(StatusCode::UNAUTHORIZED, how.to_owned())
    }

    /// Returns the login for the token that the file holds now. A new token ends the sessions of the old one.
    async fn login(&self) -> Option<Login> {
        let read = read_token(&self.path).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read.and_then(|token| state.login.clone().by(token)) {
            Ok(login) => {
                state.login = login;
                state.is_usable = true;
                Some(state.login.clone())
            }
            Err(why) => {
                // Log this once, not for each request.
                if std::mem::replace(&mut state.is_usable, false) {
                    let path = self.path.display();
                    tracing::warn!(
                        event = "page_closed",
                        %path,
                        why,
                        "the page is closed: no usable token (--page-token)"
                    );
                }
                None
            }
        }
    }
}

async fn read_token(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await.map_err(|e| e.to_string())?;
    file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).await.map_err(|e| e.to_string())?;
    token_in(&text).map(str::to_owned).map_err(str::to_owned)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    tokens::bearer(headers.get(header::AUTHORIZATION)?.to_str().ok())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Returns the token in the page's address.
fn asked_with(head: &Parts) -> Option<&str> {
    let is_page = head.method == Method::GET && head.uri.path() == "/";
    let query = head.uri.query().filter(|_| is_page)?;
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// Redirects to the page's address without the token, since browsers show and keep addresses.
fn logged_in(cookie: String) -> Response {
    let headers = [
        (header::LOCATION, "./".to_owned()),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers, "").into_response()
}

/// The origin of a request to a page without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visitor {
    Here,
    From(IpAddr),
    ByProxy,
}

/// Explains why the page is refused and what opens it.
fn closed(visitor: Visitor) -> String {
    let why = match visitor {
        Visitor::From(peer) => {
            format!("Only the agent's own host may open this page; your address is {peer}.")
        }
        Visitor::ByProxy => {
            "Only the agent's own host may open this page; your request came through a proxy.".to_owned()
        }
        Visitor::Here => "Open this page by IP address or as localhost, such as http://127.0.0.1:PORT/. \
                 Other names are refused, because anybody's domain can point to this address."
            .to_owned(),
    };
    format!(
        "{why}\n\
         To open it from elsewhere, forward its port (ssh -L PORT:127.0.0.1:PORT HOST, or kubectl port-forward) and\n\
         open http://127.0.0.1:PORT/, or start the agent with --page-token FILE and open http://HOST:PORT/?token=TOKEN\n"
    )
}

/// True for `127.0.0.1:7667`, `[::1]:7667` and `localhost`, names that no foreign name server controls.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    const TOKEN: &str = "0123456789abcdef-token";

    #[test]
    fn host_is_an_address_or_localhost() {
        for own in ["127.0.0.1:7667", "[::1]:7667", "localhost", "LOCALHOST:80", "10.0.0.7"] {
            assert!(is_address(own), "{own}");
        }
        for strange in
            ["evil.example:7667", "localhost.evil.example", "", "127.0.0.1.nip.example", "[evil]:1"]
        {
            assert!(!is_address(strange), "{strange}");
        }
    }

    fn page(access: &Access) -> Router {
        let routes =
            Router::new().route("/", get(async || "the page")).route("/page/lines", get(async || "lines"));
        access.clone().guard(routes)
    }

    async fn ask(
        page: &Router,
        peer: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::get(path).extension(Peer(peer.parse().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = page.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1 << 16).await.unwrap();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    fn token_file(token: &str) -> (tempfile::NamedTempFile, Access) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{token}\nanother line\n")).unwrap();
        let access = PageToken { page_token: Some(file.path().to_owned()) }.load().unwrap();
        (file, access)
    }

    const NAMED: (&str, &str) = ("host", "node-7.example:7667");
    const BY_ADDRESS: (&str, &str) = ("host", "10.0.0.7:7667");
    const ELSEWHERE: &str = "10.0.0.9:5000";
    const HERE: &str = "127.0.0.1:5000";

    #[tokio::test]
    async fn rejected_host_learns_the_way_out() {
        let page = page(&Access::default());
        assert_eq!(ask(&page, HERE, "/", &[("host", "localhost:7667")]).await.0, 200);
        for (peer, host, reason) in [
            (ELSEWHERE, BY_ADDRESS, "your address is 10.0.0.9"),
            (HERE, NAMED, "by IP address or as localhost"),
        ] {
            for path in ["/", "/page/lines", "/?token=0123456789abcdef-token"] {
                let (status, headers, text) = ask(&page, peer, path, &[host]).await;
                assert_eq!(status, 403, "{path}");
                assert!(
                    text.contains(reason)
                        && text.contains("--page-token FILE")
                        && text.contains("kubectl port-forward"),
                    "{text}"
                );
                assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
            }
        }
        let proxied = [("host", "localhost:7667"), ("x-forwarded-for", "127.0.0.1")];
        let (status, _, text) = ask(&page, HERE, "/", &proxied).await;
        assert!(status == 403 && text.contains("through a proxy"), "{status} {text}");
    }

    #[tokio::test]
    async fn token_becomes_a_session_cookie() {
        let (_file, access) = token_file(TOKEN);
        let page = page(&access);
        let (status, headers, _) = ask(&page, ELSEWHERE, &format!("/?token={TOKEN}"), &[NAMED]).await;
        assert_eq!((status, headers["location"].to_str().unwrap()), (303, "./"));
        let cookie = headers["set-cookie"].to_str().unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(!cookie.contains(TOKEN), "another port of the host would be sent the token: {cookie}");
        let session = cookie.split(';').next().unwrap();
        for path in ["/", "/page/lines"] {
            let sent = format!("other=1; {session}; more=2");
            assert_eq!(ask(&page, ELSEWHERE, path, &[NAMED, ("cookie", &sent)]).await.0, 200, "{path}");
        }
        let (name, _) = session.split_once('=').unwrap();
        for wrong in
            [format!("{name}={TOKEN}"), format!("{name}="), format!("x{session}"), format!("{session}0")]
        {
            assert_eq!(ask(&page, ELSEWHERE, "/", &[NAMED, ("cookie", &wrong)]).await.0, 401, "{wrong}");
        }
    }

    #[tokio::test]
    async fn page_on_this_host_needs_the_token_too() {
        let (_file, access) = token_file(TOKEN);
        let page = page(&access);
        let bearer = |token: &str| format!("Bearer {token}");
        assert_eq!(
            ask(&page, ELSEWHERE, "/page/lines", &[NAMED, ("authorization", &bearer(TOKEN))]).await.0,
            200
        );
        // A TLS proxy on this host may send the address of its upstream as the host.
        assert_eq!(ask(&page, HERE, "/", &[("host", "127.0.0.1:7667")]).await.0, 401);
        let token = bearer(TOKEN);
        let sent = [("host", "127.0.0.1:7667"), ("authorization", token.as_str())];
        assert_eq!(ask(&page, HERE, "/", &sent).await.0, 200);
        // A site that leads its visitors here by its own name (DNS rebinding) has neither token nor cookie.
        assert_eq!(ask(&page, HERE, "/", &[("host", "evil.example")]).await.0, 401);
        for wrong in
            ["", "0123456789abcdef-toke", "0123456789abcdef-tokeN", "0123456789abcdef-token0", "another line"]
        {
            let refused = ask(&page, ELSEWHERE, "/", &[NAMED, ("authorization", &bearer(wrong))]).await;
            assert!(refused.0 == 401 && refused.2.contains("/?token=TOKEN"), "{wrong}: {refused:?}");
            let path = format!("/?token={}", wrong.replace(' ', "+"));
            assert_eq!(ask(&page, ELSEWHERE, &path, &[NAMED]).await.0, 401, "{wrong}");
        }
        let lines = format!("/page/lines?token={TOKEN}");
        assert_eq!(ask(&page, ELSEWHERE, &lines, &[NAMED]).await.0, 401, "the page alone takes it");
    }

    #[tokio::test]
    async fn new_token_ends_old_sessions() {
        let (file, access) = token_file(TOKEN);
        let page = page(&access);
        let (_, headers, _) = ask(&page, ELSEWHERE, &format!("/?token={TOKEN}"), &[NAMED]).await;
        let session = headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let with_session = [NAMED, ("cookie", session.as_str())];
        assert_eq!(ask(&page, ELSEWHERE, "/", &with_session).await.0, 200);
        std::fs::write(file.path(), "a-new-token-of-the-operator\n").unwrap();
        assert_eq!(ask(&page, ELSEWHERE, "/", &with_session).await.0, 401);
        assert_eq!(ask(&page, ELSEWHERE, "/?token=a-new-token-of-the-operator", &[NAMED]).await.0, 303);
        std::fs::write(file.path(), "short\n").unwrap();
        let refused = ask(&page, ELSEWHERE, "/?token=short", &[NAMED]).await;
        assert!(refused.0 == 401 && refused.2.contains("no usable token"), "{refused:?}");
    }

    #[tokio::test]
    async fn session_outlives_a_rewrite_of_the_file() {
        let (file, access) = token_file(TOKEN);
        let page = page(&access);
        let (_, headers, _) = ask(&page, ELSEWHERE, &format!("/?token={TOKEN}"), &[NAMED]).await;
        let session = headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let with_session = [NAMED, ("cookie", session.as_str())];
        // Editors and `>` empty a file before they write it.
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(ask(&page, ELSEWHERE, "/", &with_session).await.0, 401);
        std::fs::write(file.path(), TOKEN).unwrap();
        assert_eq!(ask(&page, ELSEWHERE, "/", &with_session).await.0, 200);
    }

    #[test]
    fn unusable_token_file_is_rejected_unquoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let access = PageToken { page_token: Some(file.path().to_owned()) };
        for (text, why) in
            [("", "at least 16"), ("fifteen-letters", "at least 16"), ("sixteen letters %", "only letters")]
        {
            std::fs::write(file.path(), text).unwrap();
            let fatal = access.load().unwrap_err();
            assert_eq!(fatal.exit(), Exit::Config);
            let line = fatal.one_line();
            assert!(line.contains(why) && line.contains("--page-token"), "{line}");
            assert!(text.is_empty() || !line.contains(text), "{line}");
        }
        let missing = PageToken { page_token: Some("/nowhere/token".into()) };
        assert!(
            missing.load().unwrap_err().one_line().starts_with("cannot read /nowhere/token (--page-token)")
        );
    }
}
