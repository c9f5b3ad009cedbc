//! What somebody gets who forges requests, or repeats what he has read.

use std::{net::Ipv4Addr, path::Path, process::Command};

use farrier_e2e::{Host, Machine, clients, command::run};
use serde_json::json;

use super::{AGENT_PLANE, BOOT_PLANE, Run};

impl Run {
    /// Z9, T13: whoever forges requests of an agent, or repeats a recorded one, gets what everybody may have.
    pub(super) fn nothing_for_who_forges(&self, machine: &Machine, token: &str) {
        let forger = self
            .lan
            .host("forger", Some(Ipv4Addr::new(10, 77, 0, 66)))
            .unwrap();
        let forger = Forger::new(forger, &self.folder);
        let before = self.site.machine(machine.mac()).unwrap();
        let other = "52:54:00:77:00:99";
        for (token, mac, words) in [
            (token, machine.mac(), "was used before"),
            (token, other, "was used before"),
            (&"0".repeat(32)[..], machine.mac(), "is not one of ours"),
            ("", machine.mac(), "is not one of ours"),
        ] {
            let (status, answer) = forger.enrols(token, mac);
            assert_eq!(status, "401", "{answer}");
            assert!(answer.contains(words), "{words} in {answer}");
            assert!(!answer.contains("CERTIFICATE"), "{answer}");
        }
        let task = "00000000-0000-0000-0000-000000000001";
        for (method, path) in [
            ("GET", "work?wait=0"),
            ("POST", "inventory"),
            ("POST", "log"),
            ("POST", &format!("tasks/{task}/progress")),
            ("POST", &format!("tasks/{task}/result")),
            ("POST", "store/missing"),
            ("POST", "store/chunks"),
            ("POST", "store/fetch"),
            ("POST", "store/changed"),
            ("POST", &format!("store/commit?task={task}&fence=1")),
            ("GET", "store/manifests/debian/1"),
        ] {
            let (status, answer) = forger.asks(method, path, "{}", &[]);
            assert_eq!(status, "401", "{method} {path}: {answer}");
            // With a certificate that he made himself, the handshake ends it.
            let own = ["--cert", &forger.certificate, "--key", &forger.key];
            let (status, answer) = forger.asks(method, path, "{}", &own);
            assert!(["000", "401"].contains(&&status[..]), "{status} {answer}");
        }

        // What is left is the boot plane, and there the public class: loaders, and a menu without a token.
        let menu = json!({ "enrolment": "automatic", "unknown_machine": "menu", "menu": "always" });
        self.site.put("policy", &menu).unwrap();
        for mac in [machine.mac(), other] {
            let url = format!("http://{BOOT_PLANE}/boot/script?mac={mac}&platform=efi");
            let script = clients::curl(&forger.host, &["--fail"], &url).unwrap();
            assert!(script.contains("menu Farrier"), "{script}");
            assert!(!script.contains("farrier.token"), "{script}");
        }
        let after = self.site.machine(machine.mac()).unwrap();
        assert_eq!(before["registration"], after["registration"]);
        assert_eq!(before["inventory"], after["inventory"]);
        let stranger = self.site.machine(other).unwrap();
        assert_eq!(stranger["registration"], "seen", "{stranger:#}");
    }
}

/// Somebody on the LAN with the tools that everybody has.
struct Forger {
    host: Host,
    key: String,
    certificate: String,
    request: String,
}

impl Forger {
    fn new(host: Host, folder: &Path) -> Self {
        let place = |name: &str| folder.join(name).display().to_string();
        let (key, certificate) = (place("forger.key"), place("forger.pem"));
        let openssl = |arguments: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-new", "-subj", "/CN=forger"]);
            run(openssl.args(arguments)).unwrap()
        };
        openssl(&[
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        let request = openssl(&["-key", &key]);
        Self {
            host,
            key,
            certificate,
            request,
        }
    }

    fn enrols(&self, token: &str, mac: &str) -> (String, String) {
        let body = json!({
            "token": token, "csr": self.request, "mac": mac,
            "smbios_uuid": null, "serial": "", "agent_version": "0",
        });
        self.asks("POST", "enrol", &body.to_string(), &[])
    }

    /// The status, `000` if there was no answer, and the answer.
    fn asks(&self, method: &str, path: &str, body: &str, more: &[&str]) -> (String, String) {
        let mut curl = self.host.command("curl");
        // As agents do; the answer to a refused body can be lost by HTTP/2.
        curl.args(["--silent", "--show-error", "--insecure", "--http1.1"]);
        curl.args(["--request", method]);
        curl.args(["--write-out", "\n%{http_code}"]).args(more);
        if method == "POST" {
            curl.args(["--header", "Content-Type: application/json", "--data", body]);
        }
        let output = curl
            .arg(format!("https://{AGENT_PLANE}/agent/v1/{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (answer, status) = text.rsplit_once('\n').unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        (status.to_owned(), format!("{answer}{why}"))
    }
}
