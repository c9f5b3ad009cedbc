//! The page in a real browser.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Result;
use farrier_e2e::{Lab, Program, command::run};

/// Sign-in and a deployment by keyboard, live progress, hostile texts shown literally, no console errors, nothing
/// asked from elsewhere; `ui/page.test.mjs` has the steps. Screenshots go to `target/ui`.
#[test]
fn page_works_by_keyboard_in_a_browser() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("page").unwrap();
    let ui = lab.workspace().join("ui");
    if !ui.join("node_modules/playwright-core").is_dir() {
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&ui))
        .unwrap();
    }
    // Between our asking for a free port and its taking it, somebody else can.
    let site = start(&folder).or_else(|_| start(&folder));
    let site = site.unwrap();
    let log = site.log();
    let words: Vec<&str> = log.lines().last().unwrap().split(' ').collect();
    let [url, name, password] = words[..] else {
        panic!("the site says {log:?}")
    };
    let mut browser = Command::new("node");
    browser
        .arg("page.test.mjs")
        .args([url, name, password])
        .current_dir(&ui)
        .stdin(Stdio::null());
    let told = run(&mut browser).unwrap();
    farrier_e2e::report::say(told.trim_end());
}

fn start(folder: &Path) -> Result<Program> {
    let free = TcpListener::bind("127.0.0.1:0")?;
    let address = free.local_addr()?.to_string();
    drop(free);
    let mut site = Command::new(page_program());
    site.arg(address);
    let site = Program::start("page", site, folder)?;
    site.wait_for("http://", Duration::from_secs(60))?;
    Ok(site)
}

/// The made-up site: built with the tests, as an example of farrier-server, beside which this program lies.
fn page_program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("examples/page");
    assert!(
        Path::new(&path).is_file(),
        "{} is not built; run `cargo build -p farrier-server --example page`",
        path.display()
    );
    path
}
