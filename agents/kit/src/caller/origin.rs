//! The server that a client calls: its URL, connections to it, and requests with its address and token.

use super::{CallError, HttpCall, HttpSender};
use crate::client::{Channel, ConnectError, Server};
use crate::exit::{Exit, Fatal};
use crate::net::tls::ClientFiles;
use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, HOST, USER_AGENT};
use axum::http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The file of public authorities, in Debian, Alpine and the images built on them.
const PUBLIC_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A server's address, parsed from its URL.
#[derive(Clone, Debug)]
pub struct ServerOrigin {
    server: Server,
    /// The path in front of all others, without a slash at its end.
    prefix: String,
    authority: String,
}

impl ServerOrigin {
    /// Parses a URL such as `http://kvd:8002`. Its path is put in front of all others.
    pub fn parse(url: &str, files: &ClientFiles) -> Result<ServerOrigin, Fatal> {
        let bad = |why: &str| {
            let example = if url.contains('/') || url.is_empty() { "HOST:PORT" } else { url };
            let message = format!("{url:?} is not a URL such as http://{example}: {why} (see --server)");
            Fatal::new(Exit::Usage, message)
        };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be parsed"))?;
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("its scheme must be http or https")),
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(bad("user names and queries are not supported (see --token-file)"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let files = if is_secure { trusting(files)? } else { ClientFiles::default() };
        let server = Server::new(host, port, &files)?;
        Ok(ServerOrigin { server, prefix, authority: authority.to_string() })
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Connects, and returns the socket a second time, so that the caller decides how it is closed.
    pub async fn connect(&self) -> Result<(HttpSender, OwnedFd), CallError> {
        let (channel, socket) = self.server.connect(CONNECT_WITHIN, |_| Ok(())).await?;
        let sender = match channel {
            Channel::Plain(stream) => handshake(stream).await?,
            Channel::Tls(stream) => handshake(*stream).await?,
        };
        Ok((sender, socket))
    }

    /// Builds a request to this server, with the bearer token of the file.
    pub fn request(
        &self,
        call: &HttpCall<'_>,
        user_agent: &str,
        token_file: Option<&Path>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let invalid = |e: axum::http::Error| ConnectError::Refused(std::io::Error::other(e));
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.prefix, call.path))
            .header(HOST, &self.authority)
            .header(USER_AGENT, user_agent)
            .body(Full::new(call.body.clone()))
            .map_err(invalid)?;
        for (name, value) in &call.headers {
            request.headers_mut().append(name, value.clone());
        }
        if let Some(path) = token_file {
            // Read for each request, since a Secret is renewed while a client runs.
            let failed = |e| CallError::Token(path.display().to_string(), e);
            let token = std::fs::read_to_string(path).map_err(failed)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|e| failed(std::io::Error::other(e)))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Adds the public authorities, unless a file names others.
fn trusting(files: &ClientFiles) -> Result<ClientFiles, Fatal> {
    let mut files = files.clone();
    if files.tls_ca.is_none() {
        if !Path::new(PUBLIC_CA).exists() {
            let message = format!("https needs --tls-ca FILE: this system has no {PUBLIC_CA}");
            return Err(Fatal::new(Exit::Usage, message));
        }
        files.tls_ca = Some(PUBLIC_CA.into());
    }
    Ok(files)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<HttpSender, CallError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    // The task ends with its sender, which also reports errors.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Method;

    #[test]
    fn url_is_host_port_and_path_prefix() {
        let origin = |url| ServerOrigin::parse(url, &ClientFiles::default()).unwrap();
        let uri = |origin: &ServerOrigin, path| {
            let request = origin.request(&HttpCall::new(Method::GET, path), "test", None).unwrap();
            request.uri().to_string()
        };
        let queue = origin("http://queue");
        assert_eq!(
            (queue.server.host.as_str(), queue.server.port, uri(&queue, "/v1/stats")),
            ("queue", 80, "/v1/stats".into())
        );
        let six = origin("http://[::1]:8080/behind/proxy/");
        assert_eq!((six.server.host.as_str(), six.server.port), ("::1", 8080));
        assert_eq!((six.authority(), uri(&six, "/v1")), ("[::1]:8080", "/behind/proxy/v1".into()));
    }

    #[test]
    fn bad_url_is_named() {
        for url in
            ["queue:8080", "ftp://queue", "/v1", "http://", "http://me:secret@queue", "http://queue/?x=1"]
        {
            let fatal = ServerOrigin::parse(url, &ClientFiles::default()).err().unwrap();
            assert_eq!(fatal.exit(), Exit::Usage, "{url}");
            assert!(fatal.one_line().contains("not a URL such as"), "{fatal}");
        }
    }
}
