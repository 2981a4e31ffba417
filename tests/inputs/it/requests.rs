//! Requests and near-requests that no fuzzer would write by chance.

use inputs::short_requests::agree;
use proptest::prelude::*;

fn request() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "POST /a HTTP/1.1",
        "POST /a HTTP/1.1",
        "POST /a HTTP/1.1",
        "GET /b?c=d HTTP/1.1",
        "POST /%61 HTTP/1.1",
        "POST /<a> HTTP/1.1",
        "POST /a HTTP/1.0",
        "POST http://h/a HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "POST a HTTP/1.1",
        "\r\nPOST /a HTTP/1.1",
        "POST  /a HTTP/1.1",
    ]);
    let header = prop::sample::select(vec![
        "Content-Length: 3",
        "Content-Length: 3",
        "content-length:3",
        "Content-Length: 0",
        "Content-Length: 43",
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length: ",
        "Content-Length : 3",
        "Content-Length: 99999999999999999999",
        "Content-Length: 9000",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Connection: close",
        "Connection: keep-alive",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Host: h",
        " folded: x",
        "X: \u{e9}",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"]);
    let body = prop::sample::select(vec![
        "",
        "abc",
        "abc",
        "abcabc",
        "3\r\nabc\r\n0\r\n\r\n",
        "POST /smuggled HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ]);
    (line, prop::collection::vec(header, 0..4), end, body).prop_map(|(line, headers, end, body)| {
        let head: String = [line].into_iter().chain(headers).flat_map(|line| [line, end]).collect();
        format!("{head}{end}{body}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn any_requests_in_any_portions_are_those_that_hyper_sees(
        requests in prop::collection::vec(request(), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        half_closes: bool,
    ) {
        let bytes = requests.concat().into_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([bytes.len()]);
        let portions: Vec<&[u8]> =
            [0].into_iter().chain(cuts.clone()).zip(ends).map(|(from, to)| &bytes[from..to]).collect();
        agree(&portions, half_closes);
    }
}
