//! A database with many machines, to measure a server that knows them.
//!
//! `cargo run -p farrier-db --example many_machines -- FILE NUMBER [inventories]`. The addresses are those that
//! `farrier bench --seed 1` uses, so that its first machines are known ones. With inventories they are of a few
//! hundred models, as when a university buys machines every year.

use std::path::PathBuf;

use farrier_db::{Db, Options};
use farrier_engine::model::{
    Arch, CpuInfo, Disk, FirmwareKind, Inventory, MacText, Machine, MachineId, Nic, Registration,
    SystemInfo,
};
use farrier_engine::policy::Settings;
use farrier_engine::{MacAddr, WallTime};
use uuid::Uuid;

#[allow(clippy::print_stdout, reason = "the count is what it says")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let file = arguments.next().map(PathBuf::from).ok_or("name the file")?;
    let number = arguments
        .next()
        .and_then(|n| n.to_str()?.parse::<u32>().ok());
    let number = number.ok_or("say how many")?;
    let seen_by_agent = arguments.next().is_some_and(|word| word == "inventories");
    let db = Db::open(&file, Options::default()).await?;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(create(db.clone(), caller, number, seen_by_agent)))
        .collect();
    for caller in callers {
        caller.await??;
    }
    db.close().await;
    println!("{number} machines in {}", file.display());
    Ok(())
}

async fn create(
    db: Db,
    caller: u32,
    number: u32,
    seen_by_agent: bool,
) -> Result<(), farrier_db::DbError> {
    for n in (caller..number).step_by(CALLERS as usize) {
        let mut machine = machine(n);
        if seen_by_agent {
            machine.uuid = Some(Uuid::from_u128(2 << 100 | u128::from(n)));
            machine.inventory = Some(inventory(n, machine.macs[0]));
        }
        db.create_machine(&machine).await?;
    }
    Ok(())
}

fn machine(n: u32) -> Machine {
    let [_, a, b, c] = n.to_be_bytes();
    Machine {
        id: MachineId(Uuid::from_u128(1 << 100 | u128::from(n))),
        name: None,
        registration: Registration::Approved,
        macs: vec![MacAddr([2, 0, 1, a, b, c])],
        uuid: None,
        firmware: Some(FirmwareKind::Uefi),
        arch: Some(Arch::X86_64),
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: None,
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 0,
    }
}

fn inventory(n: u32, mac: MacAddr) -> Inventory {
    let model = n % MODELS;
    let disk = |name: &str, part: u32| Disk {
        name: name.to_owned(),
        size_bytes: 512_110_190_592,
        logical_sector: 512,
        physical_sector: 512,
        model: format!("SAMSUNG MZVLB512HBJQ-{model:03}L7"),
        serial: format!("S4ENNX{part}R{n:07}"),
        wwn: format!("eui.002538b{part}{n:08x}"),
        bus: "nvme".to_owned(),
        rotational: false,
        removable: false,
        table: Some("gpt".to_owned()),
    };
    let nic = |name: &str, mac: MacAddr, boot: bool| Nic {
        name: name.to_owned(),
        mac: MacText(mac),
        pci_id: "8086:15fb".to_owned(),
        driver: "e1000e".to_owned(),
        link_up: boot,
        boot,
    };
    let MacAddr([a, b, c, d, e, f]) = mac;
    Inventory {
        system: SystemInfo {
            manufacturer: "LENOVO".to_owned(),
            product: format!("11DB{model:04}GE"),
            family: "ThinkCentre M70s".to_owned(),
            sku: "LENOVO_MT_11DB_BU_Think_FM_ThinkCentre M70s".to_owned(),
            serial: format!("PC{n:07}"),
            uuid: Some(Uuid::from_u128(2 << 100 | u128::from(n))),
            board_serial: format!("L1HF{n:08}"),
            chassis_asset: format!("{n:06}"),
            bios_vendor: "LENOVO".to_owned(),
            bios_version: "M2TKT4AA".to_owned(),
        },
        cpu: CpuInfo {
            model: "Intel(R) Core(TM) i5-10400 CPU @ 2.90GHz".to_owned(),
            sockets: 1,
            cores: 6,
            threads: 12,
        },
        memory_bytes: 16_593_440_768,
        nics: vec![
            nic("eth0", mac, true),
            nic("eth1", MacAddr([a, b, c ^ 0x80, d, e, f]), false),
        ],
        disks: vec![disk("nvme0n1", 0), disk("nvme1n1", 1)],
        uefi: true,
        secure_boot: Some(false),
        tpm: Some("2.0".to_owned()),
        pci_without_driver: vec!["8086:06a3".to_owned()],
    }
}

const MODELS: u32 = 300;
/// As many as one transaction takes.
const CALLERS: u32 = 256;
