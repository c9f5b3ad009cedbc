//! DHCPv6 before a client of others: which address it gets, and whose requests come from it.

use std::fs;

use farrier_e2e::{Host, Scene, clients};

const SERVED: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"

[[subnet]]
network = "10.77.0.0/24"

[[subnet6]]
network = "fd77::/64"

[[subnet6.reservation]]
address = "fd77::20"
mac = "52:54:00:77:20:20"

[[subnet6.reservation]]
address = "fd77::21"
duid = "00:03:00:01:52:54:00:77:20:21"
"#;

/// T9: an IPv6 address is kept for a hardware address and for a DUID, also after SIGKILL; nobody else gets it, and
/// what is fetched from it is told of its machine.
#[test]
fn t9_ipv6_addresses_are_kept_for_who_they_are_reserved_for() {
    let lab = farrier_e2e::Lab::open().unwrap();
    let folder = lab.scratch("dhcp6-reserved").unwrap();
    let lan = farrier_e2e::Lan::new().unwrap();
    let host = lan.server().unwrap();
    host.ip(["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"])
        .unwrap();
    let site = farrier_e2e::Site::serving(&lab, host, &folder, SERVED).unwrap();
    let mut run = Scene {
        lab,
        folder,
        lan,
        site,
    };
    let mac = "52:54:00:77:20:20";
    run.know(mac).unwrap();
    let [one, other, stranger] = [
        ("one", mac),
        ("other", "52:54:00:77:20:21"),
        ("stranger", "52:54:00:77:20:22"),
    ]
    .map(|(name, mac)| {
        let client = run.lan.host(name, None).unwrap();
        // Down and up again, so that the link-local address is of this card, too.
        for change in [["down", "address", mac], ["up", "address", mac]] {
            let [state, what, value] = change;
            client
                .ip(["link", "set", "eth0", state, what, value])
                .unwrap();
        }
        client
    });
    assert_eq!(lent(&run, &one, "one"), "fd77::20");
    assert_eq!(lent(&run, &other, "other"), "fd77::21");
    let computed = lent(&run, &stranger, "stranger");
    assert!(computed.starts_with("fd77::5254"), "{computed}");
    run.site.kill();
    run.site.resume().unwrap();
    assert_eq!(lent(&run, &one, "one"), "fd77::20");

    one.ip(["addr", "add", "fd77::20/64", "dev", "eth0", "nodad"])
        .unwrap();
    let first = "http://[fd77::1]:8067/boot/undionly/none";
    let _ = clients::curl(&one, &["--interface", "fd77::20"], first).unwrap();
    let words = ["has the address fd77::20", "boot/undionly/none"];
    run.site.told(mac, &words).unwrap();
}

/// The address that a client was lent, asking with a DUID of its hardware address.
fn lent(run: &Scene, client: &Host, name: &str) -> String {
    let folder = run.folder.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let asks = "send dhcp6.client-arch-type 7;\nalso request dhcp6.bootfile-url;\n";
    let lease = clients::dhclient6(client, &folder, asks).unwrap();
    let (_, address) = lease.split_once("iaaddr ").unwrap();
    address.split(' ').next().unwrap().to_owned()
}
