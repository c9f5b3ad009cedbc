//! Disk images of people's own on real firmware: floppies, hard disks and CDs, from menus and by policy.

use std::{fs, net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use farrier_e2e::{
    Firmware, Lab, Lan, Machine, Mode, Program, Scene, Site, Vm, lab::until, report::say,
    server::Dnsmasq,
};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(150);

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _other: Option<Program>,
}

impl Run {
    /// Our server lends addresses and names what to boot.
    fn new(name: &str) -> Self {
        let lab = Lab::open().unwrap();
        let folder = lab.scratch(name).unwrap();
        let lan = Lan::new().unwrap();
        let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
        Self {
            folder,
            lan,
            site,
            _other: None,
        }
    }

    /// Our server with this configuration.
    fn serving(name: &str, text: &str) -> Self {
        let scene = Scene::serving(name, text).unwrap();
        Self {
            folder: scene.folder,
            lan: scene.lan,
            site: scene.site,
            _other: None,
        }
    }

    /// A foreign DHCP server names `file` of ours.
    fn named_by_dnsmasq(name: &str, file: &str) -> Self {
        let lab = Lab::open().unwrap();
        let folder = lab.scratch(name).unwrap();
        let lan = Lan::new().unwrap();
        let host = lan.server().unwrap();
        let address = host.address().unwrap();
        let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
        let dhcp = Dnsmasq::addresses(first, last)
            .with(&format!("--dhcp-boot={file},farrier,{address}"))
            .start(&lan.other().unwrap(), &folder)
            .unwrap();
        let site = Site::start(&lab, host, &folder, Mode::Port4011).unwrap();
        Self {
            folder,
            lan,
            site,
            _other: Some(dhcp),
        }
    }

    fn add(&self, name: &str, bytes: &[u8]) -> String {
        let image = self.folder.join(name);
        fs::write(&image, bytes).unwrap();
        self.add_file(&image)
    }

    fn add_file(&self, image: &std::path::Path) -> String {
        let arguments = ["media", "add", image.to_str().unwrap()];
        let said = self.site.farrier(&arguments).unwrap();
        // The server looks for new ones every other second. What it has found can be wished for, here for a machine
        // that is never switched on.
        let (nobody, name) = ("52:54:00:77:ff:ff", image.file_name().unwrap());
        let medium = format!("medium:{}", name.to_string_lossy());
        // It is there already when this image is not the first.
        let _ = self.site.farrier(&["machine", "add", nobody]);
        until("that the server has the image", || {
            let wish = ["machine", "boot", nobody, &medium];
            self.site.farrier(&wish).is_ok()
        })
        .unwrap();
        said
    }

    /// Whoever boots starts this image, without a menu.
    fn starts(&self, medium: &str) {
        let entry = format!("medium:{medium}");
        let policy = json!({ "menu": "never", "unknown_machine": "menu", "default_entry": entry });
        self.site.put("policy", &policy).unwrap();
    }

    fn boot(&self, machine: &Machine) -> Vm {
        machine.start(&self.lan, &self.folder).unwrap()
    }
}

/// The code in a floppy's boot sector, behind the volume's parameters: prints the text that follows it by INT 10h.
/// SeaBIOS holds the last letters back from the serial line, so there are more than are waited for.
const FLOPPY: &[u8] = b"\x31\xc0\x8e\xd8\xbe\x53\x7c\xac\x84\xc0\x74\xfe\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2FLOPPY STARTED FROM MEMORY\r\n\0";

/// Where its text begins.
const TEXT: usize = 21;

/// A hard disk's: asks INT 13h for the geometry, and prints the last head as a letter from A, and the number of
/// sectors as a character.
const DISK: &[u8] = b"\x31\xc0\x8e\xd8\x8e\xc0\xb4\x08\xb2\x80\x31\xff\xcd\x13\x80\xc6\x41\x80\xe1\x3f\x88\x36\x33\x7c\x88\x0e\x3d\x7c\xbe\x2d\x7c\xac\x84\xc0\x74\xfe\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2HEADS x SECTORS x STARTED FROM MEMORY\r\n\0";

/// A floppy of 2.88 MB made by `farrier media`, picked with its digit in iPXE's menu.
#[test]
fn r2_a_floppy_of_2_88_mb_is_picked_in_the_menu() {
    let run = Run::new("r2-floppy288");
    let (image, files) = (run.folder.join("ed-1.img"), run.folder.join("files"));
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("README.TXT"), b"hello").unwrap();
    let (path, folder) = (image.to_str().unwrap(), files.to_str().unwrap());
    let create = ["media", "floppy", "create", "--extended", path, folder];
    run.site.farrier(&create).unwrap();
    let mut floppy = fs::read(&image).unwrap();
    assert_eq!(floppy.len(), 2_949_120);
    floppy[0x3e..0x3e + FLOPPY.len()].copy_from_slice(FLOPPY);
    fs::write(&image, floppy).unwrap();
    let said = run.add_file(&image);
    assert!(said.contains("floppy") && said.contains("BIOS"), "{said}");
    let listed = run.site.farrier(&["media", "list"]).unwrap();
    assert!(listed.contains("ed-1.img"), "{listed}");
    let set = [
        "policy",
        "set",
        "media=ed-1.img",
        "menu=always",
        "menu-timeout-s=60",
        "unknown-machine=menu",
    ];
    run.site.farrier(&set).unwrap();
    let mut vm = run.boot(&Machine::new("floppy", Firmware::Bios, 61));
    vm.wait_for("Start ed-1.img", BOOT).unwrap();
    vm.press("1").unwrap();
    let seconds = vm.wait_for("FLOPPY STARTED", BOOT).unwrap();
    say(&format!("2.88 MB floppy by MEMDISK: {seconds:.1} s"));
}

/// Where machines are told apart by their address: each has a reservation and an image of its own.
const RESERVED: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"

[[subnet]]
network = "10.77.0.0/24"

[[subnet.reservation]]
address = "10.77.0.31"
mac = "52:54:00:77:00:44"

[[subnet.reservation]]
address = "10.77.0.32"
mac = "52:54:00:77:00:45"
"#;

/// R7: two machines, each with its own address and its own floppy.
#[test]
fn r7_each_machine_has_its_own_address_and_image() {
    let run = Run::serving("r7-table", RESERVED);
    run.starts("nothing.img");
    let rows = [
        (68, "10.77.0.31", "one.img", "NUMBER ONE"),
        (69, "10.77.0.32", "two.img", "NUMBER TWO"),
    ];
    for (number, _, medium, words) in rows {
        run.add(medium, &floppy_that_says(words));
        let machine = Machine::new(medium, Firmware::Bios, number);
        run.site
            .farrier(&["machine", "add", machine.mac()])
            .unwrap();
        let entry = format!("default-entry=medium:{medium}");
        let set = ["machine", "set", machine.mac(), &entry];
        run.site.farrier(&set).unwrap();
    }
    for (number, address, medium, words) in rows {
        let machine = Machine::new(medium, Firmware::Bios, number);
        let mut vm = run.boot(&machine);
        vm.wait_for(&format!("{words} STARTED"), BOOT).unwrap();
        let lent = format!("It has the address {address}");
        run.site.told(machine.mac(), &[&lent]).unwrap();
        vm.power_off().unwrap();
    }
}

/// Where both machines of R9 learn all that their floppy asks for.
const OFFICE: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"

[[subnet]]
network = "10.77.0.0/24"
routers = ["10.77.0.1"]
dns = ["10.77.0.53"]

[[subnet.reservation]]
address = "10.77.0.33"
mac = "52:54:00:77:00:46"

[[subnet.reservation]]
address = "10.77.0.34"
mac = "52:54:00:77:00:47"
"#;

/// The code in a boot sector that reads the first sector of the first file on a floppy of 1.44 MB (cylinder 0, head 1,
/// sector 16) by INT 13h, prints it by INT 10h up to a zero, and then the text that follows the code.
const SHOWS_A_FILE: &[u8] = b"\x31\xc0\x8e\xd8\x8e\xc0\xb8\x01\x02\xb9\x10\x00\xba\x00\x01\xbb\x00\x7e\xcd\x13\xbe\x00\x7e\xe8\x08\x00\xbe\x6f\x7c\xe8\x02\x00\xeb\xfe\xac\x84\xc0\x74\x09\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2\xc3";

/// R9: two machines start the same floppy, and each shows values of its own: those that our DHCP told it, those of its
/// group, and its own home directory, in `FARRIER.BAT` and in a place in the boot sector.
#[test]
fn r9_two_machines_start_one_floppy_and_show_their_own_values() {
    let run = Run::serving("r9-values", OFFICE);
    let (image, files) = (run.folder.join("own.img"), run.folder.join("files"));
    fs::create_dir_all(&files).unwrap();
    fs::write(
        files.join("FARRIER.BAT"),
        b"REM Each machine has its own.\r\n",
    )
    .unwrap();
    let (path, folder) = (image.to_str().unwrap(), files.to_str().unwrap());
    let floppy = |verb: &[&str]| run.site.farrier(&[&["media", "floppy"], verb].concat());
    floppy(&["create", path, folder]).unwrap();
    let mut bytes = fs::read(&image).unwrap();
    let text = b"HOME=[{{FARRIER_HOME                }}] NAME=[{{FARRIER_NAME}}]\r\nSTARTED FROM MEMORY\r\n\0";
    let code = [SHOWS_A_FILE, text].concat();
    bytes[0x3e..0x3e + code.len()].copy_from_slice(&code);
    fs::write(&image, &bytes).unwrap();
    run.add_file(&image);
    run.starts("own.img");

    let group = [
        r"media-values.home=\\srv\home\lab",
        "media-values.dept=lab 12",
    ];
    run.site
        .farrier(&[&["group", "set", "lab"][..], &group[..]].concat())
        .unwrap();
    let rows = [
        (70, "pc-one", "10.77.0.33", r"\\srv\home\lab", "group lab"),
        (71, "pc-two", "10.77.0.34", r"\\srv\home\two", "machine"),
    ];
    for (number, name, address, home, origin) in rows {
        let machine = Machine::new(name, Firmware::Bios, number);
        let farrier = |arguments: &[&str]| run.site.farrier(arguments).unwrap();
        farrier(&["machine", "add", machine.mac(), "--name", name]);
        farrier(&["machine", "group", name, "lab"]);
        if origin == "machine" {
            let own = format!("media-values.home={home}");
            farrier(&["machine", "set", name, &own]);
        }
        // The dry run says so before the machine is switched on.
        let show = [
            "media",
            "show",
            "own.img",
            "--machine",
            name,
            "--address",
            address,
        ];
        let shown = farrier(&show);
        let row = shown.lines().find(|line| line.starts_with("FARRIER_HOME"));
        let row = row.unwrap_or_else(|| panic!("{shown}"));
        assert!(row.contains(home) && row.contains(origin), "{shown}");
    }
    for (number, name, address, home, _) in rows {
        let machine = Machine::new(name, Firmware::Bios, number);
        let mut vm = run.boot(&machine);
        // In the order in which the floppy shows them.
        for words in [
            format!("FARRIER_NAME={name}"),
            format!("FARRIER_ADDRESS={address}"),
            "FARRIER_MASK=255.255.255.0".to_owned(),
            "FARRIER_ROUTER=10.77.0.1".to_owned(),
            "FARRIER_DNS=10.77.0.53".to_owned(),
            format!("FARRIER_MAC={}", machine.mac()),
            "FARRIER_DEPT=lab 12".to_owned(),
            format!("FARRIER_HOME={home}"),
            format!("HOME=[{home:32}]"),
            format!("NAME=[{name:16}]"),
        ] {
            vm.wait_for(&words, BOOT).unwrap();
        }
        run.site
            .told(
                machine.mac(),
                &["It fetched the image own.img (FARRIER_DOMAIN not known) by HTTP"],
            )
            .unwrap();
        vm.power_off().unwrap();
    }
    let kept = fs::read(run.site.data().join("media/own.img")).unwrap();
    assert!(kept == bytes, "the server's copy is as it was");
}

/// A floppy of 1.44 MB with nothing but a boot sector, which says who started.
fn floppy_that_says(words: &str) -> Vec<u8> {
    let code = [
        &FLOPPY[..TEXT],
        words.as_bytes(),
        &FLOPPY[TEXT + "FLOPPY".len()..],
    ]
    .concat();
    let mut floppy = vec![0; 1_474_560];
    floppy[0x3e..0x3e + code.len()].copy_from_slice(&code);
    floppy[510..512].copy_from_slice(&[0x55, 0xaa]);
    floppy
}

fn disk_image() -> Vec<u8> {
    let mut disk = vec![0; 16 * 63 * 20 * 512];
    disk[..DISK.len()].copy_from_slice(DISK);
    // One active FAT16 partition from the second track to the last sector of the last cylinder.
    let row = [0x80, 1, 1, 0, 6, 15, 63, 19, 63, 0, 0, 0, 0x81, 0x4e, 0, 0];
    disk[446..462].copy_from_slice(&row);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// A hard disk of 16 heads and 63 sectors, started once by a wish: MEMDISK counts as its table does.
#[test]
fn r2_a_hard_disk_image_starts_by_a_wish() {
    let run = Run::new("r2-harddisk");
    let said = run.add("disk.img", &disk_image());
    assert!(said.contains("16 heads, 63 sectors"), "{said}");
    run.starts("nothing.img");
    let machine = Machine::new("disk", Firmware::Bios, 62);
    let add = ["machine", "add", machine.mac()];
    run.site.farrier(&add).unwrap();
    let wish = ["machine", "boot", machine.mac(), "medium:disk.img"];
    run.site.farrier(&wish).unwrap();
    let mut vm = run.boot(&machine);
    let seconds = vm.wait_for("HEADS P SECTORS ? STARTED", BOOT).unwrap();
    say(&format!("hard-disk image by MEMDISK: {seconds:.1} s"));
    vm.power_off().unwrap();
    // The wish is over: the default entry is a medium that is not there, and the screen says so.
    let mut vm = run.boot(&machine);
    vm.wait_for("There is no image of that name", BOOT).unwrap();
    let gone = ["machine", "boot", machine.mac(), "medium:gone.img"];
    let refused = run.site.farrier(&gone).unwrap_err().to_string();
    assert!(refused.contains("farrier media add"), "{refused}");
}

/// PXELINUX throws away what was typed before its prompt, and a BIOS keeps fifteen keys.
fn type_until_it_shows(vm: &mut Vm, letter: char) {
    let key = match letter {
        '-' => "minus".to_owned(),
        '.' => "dot".to_owned(),
        letter => letter.to_string(),
    };
    vm.press(&key).unwrap();
    let shown = [&*letter.to_string()];
    if vm.shows_within(&shown, Duration::from_secs(20)).is_err() {
        vm.press(&key).unwrap();
        vm.wait_for_any(&shown, BOOT).unwrap();
    }
}

/// The same disk by PXELINUX, in its own language.
#[test]
fn r2_pxelinux_starts_a_hard_disk_image() {
    let run = Run::named_by_dnsmasq("r2-pxelinux", "boot/lpxelinux-bios/lpxelinux.0");
    run.add("disk.img", &disk_image());
    let policy: Value = json!({ "menu": "always", "menu_timeout_s": 60, "unknown_machine": "menu",
        "media": ["disk.img"] });
    run.site.put("policy", &policy).unwrap();
    let mut vm = run.boot(&Machine::new("pxelinux", Firmware::Bios, 63));
    vm.wait_for("Type a name and press Enter.", BOOT).unwrap();
    vm.wait_for("boot: ", BOOT).unwrap();
    for letter in "medium-disk.img".chars() {
        type_until_it_shows(&mut vm, letter);
    }
    vm.press("ret").unwrap();
    vm.wait_for("HEADS P SECTORS ? STARTED", BOOT).unwrap();
}

/// A CD for BIOS and UEFI whose GRUB reads its own configuration from it and prints a line.
fn cd(run: &Run) -> PathBuf {
    let tree = run.folder.join("cd");
    fs::create_dir_all(tree.join("boot/grub")).unwrap();
    let config =
        "echo CD STARTED ON $grub_platform BY ITS OWN LOADER AND CONFIGURATION\nsleep 300\n";
    fs::write(tree.join("boot/grub/grub.cfg"), config).unwrap();
    let image = run.folder.join("rescue.iso");
    let done = Command::new("grub-mkrescue")
        .arg("-o")
        .args([&image, &tree])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    image
}

/// A CD on a BIOS: small, from memory by MEMDISK.
#[test]
fn r3_a_cd_starts_from_memory() {
    let run = Run::new("r3-cd-memdisk");
    let said = run.add_file(&cd(&run));
    assert!(said.contains("CD") && said.contains("BIOS, UEFI"), "{said}");
    run.starts("rescue.iso");
    let mut vm = run.boot(&Machine::new("cd", Firmware::Bios, 64));
    let seconds = vm.wait_for("CD STARTED ON pc", BOOT).unwrap();
    say(&format!("CD by MEMDISK: {seconds:.1} s"));
}

/// The same when it is too large for that: iPXE reads it over HTTP, sector by sector.
#[test]
fn r3_a_large_cd_is_read_over_http() {
    let run = Run::new("r3-cd-http");
    let image = cd(&run);
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.set_len(300 << 20).unwrap();
    run.add_file(&image);
    run.starts("rescue.iso");
    let mut vm = run.boot(&Machine::new("large", Firmware::Bios, 65));
    let seconds = vm.wait_for("CD STARTED ON pc", BOOT).unwrap();
    say(&format!("300 MiB CD over HTTP: {seconds:.1} s"));
}

/// UEFI HTTP Boot makes a RAM disk of the CD by itself.
#[test]
fn r4_uefi_http_boot_makes_a_ram_disk_of_a_cd() {
    let run = Run::new("r4-http-cd");
    run.add_file(&cd(&run));
    let machine = Machine::new("ramdisk", Firmware::UefiHttp4, 66).memory(1024);
    run.site
        .farrier(&["machine", "add", machine.mac()])
        .unwrap();
    let wish = ["machine", "boot", machine.mac(), "medium:rescue.iso"];
    run.site.farrier(&wish).unwrap();
    let mut vm = run.boot(&machine);
    let seconds = vm.wait_for("CD STARTED ON efi", BOOT).unwrap();
    say(&format!("CD by UEFI HTTP Boot: {seconds:.1} s"));
    // No script of ours was asked for, and the boot is counted all the same.
    let id = run.site.machine(machine.mac()).unwrap();
    let known = run
        .site
        .get(&format!("machines/{}", id["id"].as_str().unwrap()));
    assert_eq!(known.unwrap()["intent"], Value::Null);
}

/// UEFI PXE: iPXE reads the CD over HTTP.
#[test]
fn r4_ipxe_on_uefi_reads_a_cd_over_http() {
    let run = Run::new("r4-ipxe-cd");
    run.add_file(&cd(&run));
    run.starts("rescue.iso");
    let machine = Machine::new("sanboot", Firmware::UefiPxe4, 67).memory(1024);
    let mut vm = run.boot(&machine);
    let seconds = vm.wait_for("CD STARTED ON efi", BOOT).unwrap();
    say(&format!("CD by iPXE on UEFI: {seconds:.1} s"));
}
