//! PCI functions, and those that no driver serves.

use std::path::Path;

use super::{line, names};

/// Classes (PCI Code and ID Assignment) an agent cannot do without: storage, network, USB hosts. A picture
/// or sound device without driver is as it should be here.
const NEEDED: &[&str] = &["01", "02", "0c03"];

/// `vendor:device class`, for what the inventory must complain of.
pub(super) fn without_driver(root: &Path) -> Vec<String> {
    let devices = root.join("sys/bus/pci/devices");
    let orphan = |name: &String| {
        let function = devices.join(name);
        let class = line(&function.join("class"));
        let class = class.strip_prefix("0x").unwrap_or(&class);
        let needed = NEEDED.iter().any(|prefix| class.starts_with(prefix));
        let orphaned = needed && !function.join("driver").exists();
        orphaned.then(|| format!("{} class {class}", id(&function)))
    };
    names(&devices).iter().filter_map(orphan).collect()
}

/// `vendor:device` as people look them up: `8086:15f3`.
pub(super) fn id(function: &Path) -> String {
    let digits = |file: &str| {
        let text = line(&function.join(file));
        text.strip_prefix("0x").unwrap_or(&text).to_owned()
    };
    format!("{}:{}", digits("vendor"), digits("device"))
}
