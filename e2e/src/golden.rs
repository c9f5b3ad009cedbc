//! The golden disk: a small real Debian that boots on SeaBIOS and on OVMF, to a login prompt on the serial port.
//!
//! Nothing is mounted but a memory file system to build in, so it can be made where the kernel knows no FAT and has no
//! loop devices: file systems are filled from folders (`mke2fs -d`, mtools) and GRUB's boot sectors are laid down here.

mod layout;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Vm,
    command::{command, run, run_with_input},
    debs::{Debs, Source},
    lab::Lab,
    report::say,
};
use layout::{
    ESP, ESP_ID, ROOT_START, ROOT_UUID, bios_loader, make_esp, make_root, partition, place,
};

/// What the console shows when the disk has booted.
pub const LOGIN: &str = "golden login:";

/// Password of `root` on the golden disk, which never leaves a private LAN.
const PASSWORD: &str = "farrier";

/// Changes whenever the recipe does, so that an older disk is rebuilt.
const RECIPE: &str = "8";

const PACKAGES: &str = "systemd-sysv,udev,kmod,initramfs-tools,busybox,procps";

/// Drivers kept from the kernel package: the lab's disks and cards. The rest of its 400 MB would only cost time.
const MODULES: &str = "virtio_pci virtio_blk virtio_scsi virtio_net virtio_rng nvme ahci ata_piix sd_mod \
    sr_mod e1000 e1000e 8139cp ext4 vfat nls_cp437 nls_ascii nls_utf8 efivarfs \
    crc32c_intel crc32c_generic autofs4";

/// Units that only cost time in an emulated machine.
const MASKED: &str = "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer \
    systemd-timesyncd.service systemd-hwdb-update.service ldconfig.service \
    systemd-pstore.service getty-static.service getty@tty1.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service \
    systemd-binfmt.service systemd-fsck-root.service systemd-fsckd.service \
    systemd-fsckd.socket systemd-journal-catalog-update.service \
    systemd-journal-flush.service systemd-random-seed.service systemd-sysctl.service \
    systemd-sysusers.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-initctl.socket dev-hugepages.mount \
    dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount";

/// The golden disk.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The raw image; read it only, or lay a [`crate::Disk::overlay`] over it.
    pub image: PathBuf,
}

impl Golden {
    /// The golden disk of the lab, built now if it is absent or of an older recipe.
    ///
    /// # Errors
    /// Names the step that failed.
    pub fn ensure(lab: &Lab) -> Result<Self> {
        let _lock = lab.lock("golden")?;
        let folder = lab.subfolder("golden")?;
        let image = folder.join("golden.raw");
        let stamp = folder.join("golden.stamp");
        let source = Source::of_this_machine()?;
        let inputs = format!(
            "{RECIPE} {} {} {PACKAGES} {MODULES} {MASKED}",
            source.uri, source.suite
        );
        if image.exists() && fs::read_to_string(&stamp).unwrap_or_default() == inputs {
            say("      the golden disk is present");
            return Ok(Self { image });
        }
        let half = folder.join("golden.part");
        build(lab, &folder, &half, &source).context("cannot build the golden disk")?;
        fs::rename(&half, &image).with_context(|| format!("cannot name {}", image.display()))?;
        fs::write(&stamp, inputs).context("cannot write the golden disk's stamp")?;
        Ok(Self { image })
    }
}

/// What the console shows when root can type a command.
const PROMPT: &str = "root@golden:~#";
/// On a serial line that is emulated, now and then a character is lost or comes twice; then the line is typed anew.
const TRIES: u32 = 5;

/// Logs in as root at the prompt that was waited for.
///
/// # Errors
/// When a part of the dialogue does not come within `patience`.
pub fn log_in(vm: &mut Vm, patience: Duration) -> Result<()> {
    for _ in 0..TRIES {
        vm.type_line("root")?;
        vm.wait_for("Password:", patience)?;
        vm.type_line(PASSWORD)?;
        // What is typed before the shell runs is thrown away.
        if vm.wait_for_any(&[PROMPT, "Login incorrect"], patience)? == 0 {
            return Ok(());
        }
        vm.wait_for(LOGIN, patience)?;
    }
    bail!("root is not let in:\n{}", vm.tail())
}

/// Types a command as root, and returns what `read` makes of its output, once that makes sense of it.
///
/// # Errors
/// When it never does.
pub fn ask<T>(vm: &mut Vm, line: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    for _ in 0..TRIES {
        vm.type_line(&format!("clear; {line}; echo END-$((6*7))"))?;
        if vm.wait_for("END-42", Duration::from_secs(30)).is_ok() {
            let console = vm.console();
            if let Some(found) = output(&console).and_then(&read) {
                return Ok(found);
            }
        } else {
            // The shell may wait for the end of a line that came garbled: Ctrl-C.
            vm.type_line("\u{3}")?;
            vm.wait_for(PROMPT, Duration::from_secs(30))?;
        }
    }
    bail!("{line} has no answer:\n{}", vm.tail())
}

/// What is between the echo of the last command and its end.
fn output(console: &str) -> Option<&str> {
    let (until, _) = console.rsplit_once("END-42")?;
    until.rsplit_once("END-$").map(|(_, said)| said)
}

fn build(lab: &Lab, folder: &Path, image: &Path, source: &Source) -> Result<()> {
    let workshop = Workshop::open(&folder.join("workshop"))?;
    let root = workshop.0.join("root");
    say("      golden disk: installing a minimal Debian (debootstrap, about a minute)");
    debootstrap(lab, &root, source)?;
    say("      golden disk: adding the kernel and its start image");
    let release = kernel(lab, &workshop.0, &root)?;
    settle(&root, &release)?;
    initramfs(&root, &release)?;
    trim(&root)?;
    say("      golden disk: writing partitions, file systems and loaders");
    let _ = fs::remove_file(image);
    partition(image)?;
    let esp = workshop.0.join("esp.img");
    make_esp(&workshop.0, &esp)?;
    place(&esp, image, ESP.0)?;
    let ext4 = workshop.0.join("root.img");
    make_root(&root, &ext4)?;
    place(&ext4, image, ROOT_START)?;
    bios_loader(&workshop.0, image)
}

/// A memory file system to build in: package installation syncs each file, which costs minutes on a real disk.
struct Workshop(PathBuf);

impl Workshop {
    fn open(path: &Path) -> Result<Self> {
        let workshop = Self(path.to_path_buf());
        workshop.close();
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        if let Err(error) = run(command(
            "mount",
            ["-t", "tmpfs", "-o", "size=3g,mode=755", "farrier-golden"],
        )
        .arg(path))
        {
            say(&format!(
                "      no memory file system to build in, using the disk, which is slower: {error:#}"
            ));
        }
        Ok(workshop)
    }

    fn close(&self) {
        // Innermost first: an interrupted debootstrap leaves its own mounts inside.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let inside = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|at| Path::new(at).starts_with(&self.0));
        for mount in inside.collect::<Vec<_>>().into_iter().rev() {
            let _ = run(&mut command("umount", ["-l", mount]));
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.close();
    }
}

fn debootstrap(lab: &Lab, root: &Path, source: &Source) -> Result<()> {
    let cache = lab.subfolder("golden/packages")?;
    let mut debootstrap = command(
        "debootstrap",
        ["--variant=minbase", "--arch=amd64", "--merged-usr"],
    );
    debootstrap
        .arg(format!("--include={PACKAGES}"))
        .arg(format!("--cache-dir={}", cache.display()));
    if let Some(keyring) = &source.keyring {
        debootstrap.arg(format!("--keyring={keyring}"));
    }
    run(debootstrap.arg(&source.suite).arg(root).arg(&source.uri)).map(drop)
}

/// Unpacks the kernel and those of its modules that are wanted, and returns its release name.
fn kernel(lab: &Lab, workshop: &Path, root: &Path) -> Result<String> {
    let deb = Debs::open(lab)?.kernel()?;
    let all = workshop.join("kernel");
    run(command("dpkg-deb", ["-x"]).arg(&deb.path).arg(&all))?;
    let modules = all.join("lib/modules");
    let release = fs::read_dir(&modules)
        .context("the kernel package holds no modules")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .next()
        .context("the kernel package holds no modules")?;
    run(command("depmod", ["-b"]).arg(&all).arg(&release))?;
    for name in [format!("vmlinuz-{release}"), format!("config-{release}")] {
        fs::copy(all.join("boot").join(&name), root.join("boot").join(&name))
            .with_context(|| format!("cannot copy {name}"))?;
    }
    for module in MODULES.split(' ') {
        let needed = run(
            command("modprobe", ["-S", &release, "--show-depends", "-d"])
                .arg(&all)
                .arg(module),
        )?;
        for path in needed
            .lines()
            .filter_map(|line| line.strip_prefix("insmod "))
        {
            let inside = Path::new(path.trim())
                .strip_prefix(&all)
                .with_context(|| format!("{path} lies elsewhere"))?;
            let target = root.join("usr").join(inside);
            fs::create_dir_all(target.parent().context("a module needs a folder")?)?;
            fs::copy(path.trim(), &target).with_context(|| format!("cannot copy {path}"))?;
        }
    }
    for list in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        let from = modules.join(&release).join(list);
        fs::copy(from, root.join("usr/lib/modules").join(&release).join(list))
            .with_context(|| format!("cannot copy {list}"))?;
    }
    run(command("depmod", ["-b"]).arg(root).arg(&release))?;
    fs::remove_dir_all(&all).context("cannot remove the unpacked kernel")?;
    Ok(release)
}

/// Host name, root's password, mounts, boot menu, and units that are not wanted.
fn settle(root: &Path, release: &str) -> Result<()> {
    write(root, "etc/hostname", "golden\n")?;
    write(root, "etc/hosts", "127.0.0.1 localhost golden\n")?;
    let esp = format!("{}-{}", &ESP_ID[..4], &ESP_ID[4..]);
    write(
        root,
        "etc/fstab",
        &format!(
            "UUID={ROOT_UUID} / ext4 errors=remount-ro 0 0\nUUID={esp} /boot/efi vfat umask=0077,nofail 0 0\n"
        ),
    )?;
    fs::create_dir_all(root.join("boot/efi")).context("cannot make /boot/efi")?;
    write(
        root,
        "boot/grub/grub.cfg",
        &format!(
            "set timeout=0\nlinux /boot/vmlinuz-{release} root=UUID={ROOT_UUID} ro console=ttyS0,115200 net.ifnames=0 loglevel=4 \
             systemd.show_status=1\ninitrd /boot/initrd.img-{release}\nboot\n"
        ),
    )?;
    // The same machine id on each build; a real deployment would clear it.
    write(root, "etc/machine-id", "5f0a1d526f364c149f5b0d6e2f9a1c02\n")?;
    write(
        root,
        "etc/systemd/journald.conf.d/lab.conf",
        "[Journal]\nStorage=volatile\n",
    )?;
    run_with_input(
        command("chroot", [""; 0]).arg(root).arg("chpasswd"),
        format!("root:{PASSWORD}\n").as_bytes(),
    )?;
    for unit in MASKED.split(' ') {
        let link = root.join("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("/dev/null", &link)
            .with_context(|| format!("cannot mask {unit}"))?;
    }
    Ok(())
}

fn initramfs(root: &Path, release: &str) -> Result<()> {
    write(
        root,
        "etc/initramfs-tools/conf.d/lab",
        "MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\nRESUME=none\n",
    )?;
    let disks = [
        "virtio_pci",
        "virtio_blk",
        "virtio_scsi",
        "nvme",
        "ahci",
        "ata_piix",
        "sd_mod",
        "ext4",
        "crc32c_intel",
    ];
    write(
        root,
        "etc/initramfs-tools/modules",
        &format!("{}\n", disks.join("\n")),
    )?;
    run(command("chroot", [""; 0])
        .arg(root)
        .args(["update-initramfs", "-c", "-k", release]))
    .map(drop)
}

/// Removes what was fetched to install, and documentation.
fn trim(root: &Path) -> Result<()> {
    for folder in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/info",
        "var/log/apt",
    ] {
        empty(&root.join(folder)).with_context(|| format!("cannot empty {folder}"))?;
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)?
        } else {
            fs::remove_file(&path)?
        }
    }
    Ok(())
}

fn write(root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("cannot allow reading {name}"))
}
