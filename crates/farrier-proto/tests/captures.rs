//! What real firmware and a widespread server said to each other, decoded, rendered and written again.
//!
//! `FARRIER_UPDATE=1` writes the renderings anew.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use farrier_proto::wire::dhcpv4::{Message, Op};
use farrier_proto::wire::text::render;
use farrier_proto::wire::tftp::{Packet, TransferOptions};
use farrier_testkit::capture::{self, Payload};
use farrier_testkit::snapshot;

const PROVENANCE: &str = "Provenance: QEMU 7.2 (TCG) with the firmware packages of Debian 12, in a private lab network of \
     made-up addresses; the server is dnsmasq 2.90. Data blocks are trimmed.";

/// Captures with client packets that we do not write back byte for byte, and why. None so far.
const NOT_WRITTEN_BACK: &[&str] = &[];

struct Datagram {
    time_us: u64,
    source: SocketAddr,
    destination: SocketAddr,
    data: Vec<u8>,
}

fn captures() -> Vec<(PathBuf, Vec<Datagram>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let paths = capture::list(&folder);
    assert!(paths.len() >= 81, "the captures are there: {}", paths.len());
    paths
        .into_iter()
        .map(|path| (path.clone(), datagrams(&path)))
        .collect()
}

fn datagrams(path: &Path) -> Vec<Datagram> {
    let frames = capture::read(path).unwrap();
    let datagrams = frames.into_iter().filter_map(|frame| match frame.payload {
        Payload::Udp {
            source,
            destination,
            data,
        } if source.is_ipv4() => Some(Datagram {
            time_us: frame.time_us,
            source,
            destination,
            data,
        }),
        _ => None,
    });
    datagrams.collect()
}

fn is_dhcp(datagram: &Datagram) -> bool {
    matches!(datagram.destination.port(), 67 | 68 | 4011)
}

#[test]
fn every_capture_renders_as_it_did() {
    for (path, datagrams) in captures() {
        let mut text = format!("{PROVENANCE}\n");
        for datagram in datagrams {
            let body = if is_dhcp(&datagram) {
                render(&Message::decode(&datagram.data).unwrap())
            } else {
                render_tftp(&datagram.data)
            };
            writeln!(
                text,
                "\n{:.6} {} > {}",
                std::time::Duration::from_micros(datagram.time_us).as_secs_f64(),
                datagram.source,
                datagram.destination
            )
            .unwrap();
            body.lines()
                .for_each(|line| writeln!(text, "  {line}").unwrap());
        }
        snapshot::check(&path.with_extension("txt"), &text);
    }
}

/// DATA is shown without its bytes, most of which are not in the capture anyway.
fn render_tftp(data: &[u8]) -> String {
    match Packet::decode(data) {
        Ok(Packet::Data { block, .. }) => format!("DATA {block}"),
        Ok(Packet::Ack { block }) => format!("ACK {block}"),
        Ok(Packet::Error { code, text }) => format!("ERROR {} \"{}\"", code.0, text.escape_ascii()),
        Ok(Packet::OptionAck(options)) => format!("OACK {}", shown(options)),
        Ok(Packet::ReadRequest(request)) => {
            format!(
                "RRQ \"{}\" {:?} {}",
                request.name.escape_ascii(),
                request.mode,
                shown(request.options)
            )
        }
        Ok(Packet::WriteRequest(_)) => "WRQ".to_owned(),
        Err(error) => format!("not TFTP: {error}"),
    }
}

/// No firmware here asks for multicast; a line that says so each time would tell nothing.
fn shown(options: TransferOptions) -> String {
    format!("{options:?}").replace(", multicast: None", "")
}

#[test]
fn real_packets_have_nothing_odd() {
    for (path, datagrams) in captures() {
        for datagram in datagrams.iter().filter(|datagram| is_dhcp(datagram)) {
            let message = Message::decode(&datagram.data).unwrap();
            assert_eq!(message.oddities, [], "{}", path.display());
            assert!(message.mac().is_some(), "{}", path.display());
        }
    }
}

#[test]
fn client_packets_are_written_back_byte_for_byte() {
    let mut compared = 0;
    for (path, datagrams) in captures() {
        let name = path.file_name().unwrap().to_string_lossy();
        if NOT_WRITTEN_BACK.contains(&&*name) {
            continue;
        }
        for datagram in datagrams.iter().filter(|datagram| is_dhcp(datagram)) {
            let message = Message::decode(&datagram.data).unwrap();
            if message.op == Op::Request {
                assert_eq!(
                    message.encode(),
                    datagram.data,
                    "{name} at {} us",
                    datagram.time_us
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 245, "{compared} client packets");
}

/// What the measured table of firmware says of each family must be found by the accessors.
#[test]
fn accessors_read_what_each_firmware_sends() {
    /// Capture, architectures, user class, message size, broadcast flag.
    type Row = (
        &'static str,
        &'static [u16],
        Option<&'static [u8]>,
        Option<u16>,
        bool,
    );
    let rows: [Row; 6] = [
        (
            "bios-virtio-nbp--dnsmasq",
            &[0],
            Some(b"iPXE"),
            Some(1472),
            false,
        ),
        ("ovmf-pxe4--dnsmasq", &[7], None, Some(1472), true),
        ("aavmf-http4--dnsmasq", &[19], None, Some(1472), true),
        ("uboot-arm64-efi--dnsmasq", &[22], None, Some(576), false),
        ("uboot-riscv64-efi--dnsmasq", &[], None, Some(576), false),
        ("s390x-pxelinuxcfg--dnsmasq", &[], None, None, false),
    ];
    for (name, arch, user_class, size, broadcast) in rows {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata/captures")
            .join(format!("{name}.pcap"));
        let datagrams = datagrams(&path);
        let first = datagrams.iter().find(|datagram| is_dhcp(datagram)).unwrap();
        let message = Message::decode(&first.data).unwrap();
        assert_eq!(message.client_system_architecture(), arch, "{name}");
        assert_eq!(
            message.user_class().map(|class| class.0),
            user_class,
            "{name}"
        );
        assert_eq!(message.max_message_size(), size, "{name}");
        assert_eq!(message.wants_broadcast(), broadcast, "{name}");
    }
}
