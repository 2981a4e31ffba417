//! On a full disk, writes get 507, reads continue, and the server recovers by itself.

use crate::daemon::Kvd;
use nix::sys::resource::Resource;
use trial::metric;

/// Limit on the size of a file. Writes beyond it fail, as on a full disk.
const SMALL: u64 = 400 << 10;

#[test]
fn reserve_of_the_disk_is_kept() {
    let kvd = Kvd::start(&["--min-free", "99%", "--admin", "127.0.0.1:0"]);
    let refused = kvd.put("/v1/keys/first", "x").expect(507);
    assert_eq!(refused.error(), "no_space");
    assert!(refused.text().contains("less than --min-free 99%"), "{}", refused.text());
    assert_eq!(trial::ask(kvd.address("admin"), "GET", "/ready").status, 503);
    assert_eq!(kvd.send("GET /save/a/b HTTP/1.1\r\nHost: x\r\n\r\n").status, 507);
    assert_eq!(kvd.get("/load/a").text(), "_key_not_found_");
}

#[test]
fn full_disk_refuses_writes_only() {
    let mut kvd = Kvd::start(&["--admin", "127.0.0.1:0"]);
    kvd.put("/v1/keys/first", "x").expect(201);
    kvd.limit(Resource::RLIMIT_FSIZE, SMALL);
    let mut kept = 0;
    let refused = loop {
        let answer = kvd.put(&format!("/v1/keys/{kept}"), [b'x'; 4000]);
        if answer.status != 201 {
            break answer.expect(507);
        }
        kept += 1;
    };
    assert_eq!(refused.error(), "no_space");
    assert!(refused.text().contains("the disk takes no more"), "{}", refused.text());
    assert!(kept > 10, "{kept} keys before the disk was full");
    let course = format!("GET /save/a/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(4000));
    assert_eq!(kvd.send(&course).status, 507);
    assert_eq!(kvd.get("/v1/keys/0").expect(200).body.len(), 4000);
    assert_eq!(kvd.get(&format!("/v1/keys/{kept}")).status, 404);
    let admin = kvd.address("admin");
    let admin = |path: &str| trial::ask(admin, "GET", path);
    // The rest of the last pages has room for some short writes, including the server's own retries.
    kvd.wait_until("there is no room for the shortest write", || {
        kvd.put("/v1/keys/tiny", "x").status == 507
            && admin("/ready").text().contains("store: the disk takes no more")
            && metric::<u64>(admin("/metrics").text(), "kvd_refuses_writes") == 1
    });
    assert!(metric::<u64>(admin("/metrics").text(), "kvd_commit_errors_total") > 0);

    kvd.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
    kvd.wait_until("it is ready without a request", || admin("/ready").status == 200);
    kvd.put("/v1/keys/after", "x").expect(201);
    kvd.kill_and_restart();
    for key in 0..kept {
        assert_eq!(kvd.get(&format!("/v1/keys/{key}")).expect(200).body, [b'x'; 4000]);
    }
    assert_eq!(kvd.get("/v1/keys/after").status, 200);
}
