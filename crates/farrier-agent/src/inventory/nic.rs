//! Network adapters with hardware behind them.

use std::fs;
use std::path::Path;

use farrier_api::agent::Nic;
use farrier_proto::MacAddr;

use super::{line, link_name};
use crate::net;

pub(super) fn read(root: &Path, boot: MacAddr) -> Vec<Nic> {
    let class = root.join("sys/class/net");
    net::interfaces(&class)
        .into_iter()
        .map(|interface| nic(&class.join(&interface.name), &interface, boot))
        .collect()
}

fn nic(path: &Path, interface: &net::Interface, boot: MacAddr) -> Nic {
    let device = path.join("device");
    Nic {
        name: interface.name.clone(),
        mac: interface.mac.to_string(),
        pci_id: pci_id(&device).unwrap_or_default(),
        driver: link_name(&device.join("driver")),
        link_up: line(&path.join("carrier")) == "1",
        boot: interface.mac == boot,
    }
}

/// `vendor:device`, of the device itself or, for virtio, of the PCI function it sits on.
fn pci_id(device: &Path) -> Option<String> {
    let real = fs::canonicalize(device).ok()?;
    let has_class =
        |folder: &&Path| folder.join("class").exists() && folder.join("vendor").exists();
    let function = real.ancestors().take(3).find(has_class)?;
    Some(super::pci::id(function))
}
