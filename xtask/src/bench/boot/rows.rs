//! The work, and who does it.

use super::server::{Files, Peer};
use super::{CLIENTS, SERVER};

/// One line of the comparison.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) goal: &'static str,
    pub(super) name: &'static str,
    pub(super) work: Work,
    pub(super) peers: &'static [Peer],
    /// Our CPU, as a share of the best peer's.
    pub(super) limit: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// DISCOVER, OFFER, REQUEST, ACK; leases on disk before the ACK where the server can.
    Dora { rate: u32, count: u32 },
    /// DISCOVER, OFFER, beside another DHCP server.
    Offers { rate: u32, count: u32 },
    Tftp {
        file: File,
        clients: u32,
        count: u32,
        blksize: u16,
        window: u16,
        loss: f64,
    },
    /// One stream for all (RFC 2090).
    Multicast {
        clients: u32,
        /// Whoever has the file says nothing more.
        leave: bool,
    },
    Http {
        file: File,
        clients: u32,
        count: u32,
        range: bool,
        close: bool,
        tls: bool,
    },
}

/// Which file is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// A script of some hundred bytes.
    Script,
    /// 1 MiB.
    Loader,
    /// 16 MiB, whose blocks two bytes can number.
    Kernel,
    /// 100 MiB.
    Image,
}

impl Work {
    /// How `farrier bench` is told.
    pub(super) fn arguments(&self, peer: Peer, files: &Files) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut say = |word: &str| words.push(word.to_owned());
        match *self {
            Self::Dora { rate, count } | Self::Offers { rate, count } => {
                say("dhcp");
                say(&SERVER.to_string());
                say(&format!("--relay={CLIENTS}"));
                say(&format!("--rate={rate}"));
                say(&format!("--count={count}"));
                if matches!(self, Self::Offers { .. }) {
                    say("--offers-only");
                }
            }
            Self::Tftp {
                file,
                clients,
                count,
                blksize,
                window,
                loss,
            } => {
                say("tftp");
                say(&SERVER.to_string());
                say(&files.tftp_name(file, peer));
                if let Some(copy) = files.copy(file) {
                    say(&format!("--expect={}", copy.display()));
                }
                say(&format!("--clients={clients}"));
                say(&format!("--count={count}"));
                say(&format!("--blksize={blksize}"));
                say(&format!("--window={window}"));
                say(&format!("--loss={loss}"));
                say("--from=10.80.1.0");
            }
            Self::Multicast { clients, leave } => {
                say("tftp");
                say(&SERVER.to_string());
                say(&files.tftp_name(File::Kernel, peer));
                if let Some(copy) = files.copy(File::Kernel) {
                    say(&format!("--expect={}", copy.display()));
                }
                say(&format!("--clients={clients}"));
                say(&format!("--count={clients}"));
                say("--blksize=1456");
                say(&format!("--multicast={CLIENTS}"));
                if leave {
                    say("--leave");
                }
                // Ours has a stream only for whom it knows by DHCP.
                say(match peer {
                    Peer::Farrier => "--relay=10.80.0.1",
                    _ => "--from=10.80.1.0",
                });
            }
            Self::Http {
                file,
                clients,
                count,
                range,
                close,
                tls,
            } => {
                say("http");
                say(&files.url(file, peer, tls));
                if tls {
                    say(&format!("--trust={}", files.certificate().display()));
                }
                say(&format!("--clients={clients}"));
                say(&format!("--count={count}"));
                if range {
                    say("--range=1048576");
                    say("--of=104857600");
                }
                if close {
                    say("--close");
                }
            }
        }
        words
    }

    /// Whether CPU is told per byte, or per answer.
    pub(super) fn per_byte(&self) -> bool {
        match self {
            Self::Dora { .. } | Self::Offers { .. } => false,
            Self::Multicast { .. } => true,
            Self::Tftp { file, .. } | Self::Http { file, .. } => *file != File::Script,
        }
    }
}

const fn tftp(file: File, clients: u32, count: u32, window: u16) -> Work {
    Work::Tftp {
        file,
        clients,
        count,
        blksize: 1468,
        window,
        loss: 0.0,
    }
}

const TFTP: &[Peer] = &[Peer::Farrier, Peer::Dnsmasq, Peer::Hpa, Peer::Atftpd];
const MULTICAST: &[Peer] = &[Peer::Farrier, Peer::Atftpd];
const HTTP: &[Peer] = &[Peer::Farrier, Peer::Nginx];

/// Names and goals as in the report on peers that the project started from.
pub(super) const ROWS: &[Row] = &[
    Row {
        goal: "G5",
        name: "dora 200/s",
        work: Work::Dora {
            rate: 200,
            count: 1000,
        },
        peers: &[Peer::Farrier, Peer::Kea, Peer::Dnsmasq, Peer::Isc],
        limit: 0.75,
    },
    Row {
        goal: "G5",
        name: "dora 4000/s",
        work: Work::Dora {
            rate: 4000,
            // We keep the last quarter of a range for known machines.
            count: 15_000,
        },
        peers: &[Peer::Farrier, Peer::Kea],
        limit: 0.75,
    },
    Row {
        goal: "G6",
        name: "proxy 4000/s",
        work: Work::Offers {
            rate: 4000,
            count: 20_000,
        },
        peers: &[Peer::Farrier, Peer::Dnsmasq],
        limit: 0.6,
    },
    Row {
        goal: "G1",
        name: "tftp pxe16 w1",
        work: tftp(File::Loader, 16, 256, 1),
        peers: TFTP,
        limit: 0.9,
    },
    Row {
        goal: "G1",
        name: "tftp pxe64 w1",
        work: tftp(File::Loader, 64, 256, 1),
        peers: TFTP,
        limit: 0.9,
    },
    Row {
        goal: "G1",
        name: "tftp script x64",
        work: tftp(File::Script, 64, 4096, 1),
        peers: TFTP,
        limit: 0.9,
    },
    Row {
        goal: "G2",
        name: "tftp w4",
        work: tftp(File::Loader, 16, 512, 4),
        peers: TFTP,
        limit: 0.45,
    },
    Row {
        goal: "G2",
        name: "tftp w16",
        work: tftp(File::Loader, 16, 512, 16),
        peers: TFTP,
        limit: 0.25,
    },
    Row {
        goal: "G3",
        name: "tftp loss w1",
        work: Work::Tftp {
            file: File::Loader,
            clients: 16,
            count: 48,
            blksize: 1468,
            window: 1,
            loss: 0.003,
        },
        peers: TFTP,
        limit: 1.0,
    },
    Row {
        goal: "G3",
        name: "tftp loss w16",
        work: Work::Tftp {
            file: File::Loader,
            clients: 16,
            count: 96,
            blksize: 1468,
            window: 16,
            loss: 0.003,
        },
        peers: TFTP,
        limit: 0.5,
    },
    Row {
        goal: "G4",
        name: "tftp storm 1000",
        work: tftp(File::Loader, 1000, 1000, 1),
        peers: TFTP,
        limit: 1.0,
    },
    Row {
        goal: "G8",
        name: "tftp multicast x16",
        work: Work::Multicast {
            clients: 16,
            leave: false,
        },
        peers: MULTICAST,
        limit: 0.5,
    },
    Row {
        goal: "G8",
        name: "tftp multicast x16, leaving",
        work: Work::Multicast {
            clients: 16,
            leave: true,
        },
        peers: MULTICAST,
        limit: 0.5,
    },
    Row {
        goal: "G7",
        name: "http 100 MiB x16",
        work: Work::Http {
            file: File::Image,
            clients: 16,
            count: 48,
            range: false,
            close: false,
            tls: false,
        },
        peers: HTTP,
        limit: 1.0,
    },
    Row {
        goal: "G7",
        name: "http ranges x16",
        work: Work::Http {
            file: File::Image,
            clients: 16,
            count: 4000,
            range: true,
            close: false,
            tls: false,
        },
        peers: HTTP,
        limit: 1.0,
    },
    Row {
        goal: "G7",
        name: "http 1 MiB x64",
        work: Work::Http {
            file: File::Loader,
            clients: 64,
            count: 4000,
            range: false,
            close: false,
            tls: false,
        },
        peers: HTTP,
        limit: 1.0,
    },
    Row {
        goal: "G7",
        name: "http script, new connections x64",
        work: Work::Http {
            file: File::Script,
            clients: 64,
            count: 20_000,
            range: false,
            close: true,
            tls: false,
        },
        peers: HTTP,
        limit: 1.3,
    },
    Row {
        goal: "G7",
        name: "https 100 MiB x16",
        work: Work::Http {
            file: File::Image,
            clients: 16,
            count: 48,
            range: false,
            close: false,
            tls: true,
        },
        peers: HTTP,
        limit: 1.05,
    },
    Row {
        goal: "G7",
        name: "https ranges x16",
        work: Work::Http {
            file: File::Image,
            clients: 16,
            count: 4000,
            range: true,
            close: false,
            tls: true,
        },
        peers: HTTP,
        limit: 1.05,
    },
    Row {
        goal: "G7",
        name: "https script, new connections x64",
        work: Work::Http {
            file: File::Script,
            clients: 64,
            count: 5000,
            range: false,
            close: true,
            tls: true,
        },
        peers: HTTP,
        limit: 1.1,
    },
];
