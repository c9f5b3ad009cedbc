//! The chain of trust of a boot program, told before it is used: signers, generations (SBAT), and what a shim
//! revokes. By shim's own rules (`SBAT.md`): a component is refused when its generation is below the one that the
//! shim names for it.

use std::fmt;
use std::io;

use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::model::FirmwareKind;

use super::Loaders;
use super::pe::Pe;
use super::signer::{self, Certificate};

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Who signed, first; then the authorities that came with the signature.
    pub certificates: Vec<Certificate>,
    /// Components and their generations.
    pub sbat: Vec<Generation>,
    /// Of a shim: the generations that it demands of what it starts.
    pub demands: Vec<Generation>,
    /// Of a shim: the authorities it was built to trust, beside those of the firmware.
    pub vendor: Vec<Certificate>,
}

/// A component of a boot program and how often it was revoked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    pub component: String,
    pub number: u32,
}

/// Whether a shim starts another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Starts,
    Unsigned,
    /// Signed by somebody whom neither the shim nor, as far as we can tell, firmware trusts.
    OtherSigner(String),
    /// shim 15.3 and later want the section.
    NoSbat,
    Revoked {
        component: String,
        has: u32,
        needs: u32,
    },
}

impl Verdict {
    /// Why it is refused and what to do; none if it starts.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        Some(match self {
            Self::Starts => return None,
            Self::Unsigned => "it is not signed".to_owned(),
            Self::OtherSigner(issuer) => {
                format!(
                    "its signer was certified by {issuer}, whom this shim does not know; import both from one \
                     distribution"
                )
            }
            Self::NoSbat => {
                "it has no SBAT section; import the distribution's newest package".to_owned()
            }
            Self::Revoked {
                component,
                has,
                needs,
            } => format!(
                "{component} of generation {has} is revoked, {needs} is the oldest it takes; import the \
                 distribution's newest package"
            ),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refusal() {
            None => f.write_str("starts it"),
            Some(why) => write!(f, "REFUSES it: {why}"),
        }
    }
}

impl Trust {
    /// Reads a boot program. A file that is no PE file has nothing to say.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        let Some(pe) = Pe::read(file) else {
            return Self::default();
        };
        Self {
            certificates: signer::signatures(file),
            sbat: pe.section(b".sbat").map(generations).unwrap_or_default(),
            demands: pe
                .section(b".sbatlevel")
                .and_then(latest_level)
                .map(generations)
                .unwrap_or_default(),
            vendor: pe
                .section(b".vendor_cert")
                .map(|section| signer::certificates(section).collect())
                .unwrap_or_default(),
        }
    }

    /// Who signed.
    #[must_use]
    pub fn signer(&self) -> Option<&Certificate> {
        signer::leaf(&self.certificates)
    }

    /// Whether this shim starts `other`.
    #[must_use]
    pub fn verdict_on(&self, other: &Self) -> Verdict {
        let Some(signer) = other.signer() else {
            return Verdict::Unsigned;
        };
        let trusted = |name: &str| self.vendor.iter().any(|own| own.subject == name);
        // What Microsoft signed, firmware itself vouches for.
        if !trusted(&signer.issuer)
            && !trusted(&signer.subject)
            && !signer.issuer.starts_with("Microsoft")
        {
            return Verdict::OtherSigner(signer.issuer.clone());
        }
        if other.sbat.is_empty() {
            return Verdict::NoSbat;
        }
        let revoked = self.demands.iter().find_map(|demand| {
            let own = other
                .sbat
                .iter()
                .find(|own| own.component == demand.component)?;
            (own.number < demand.number).then(|| Verdict::Revoked {
                component: own.component.clone(),
                has: own.number,
                needs: demand.number,
            })
        });
        revoked.unwrap_or(Verdict::Starts)
    }
}

/// Whether `shim` starts `second`, by what their files say.
pub fn verdict(loaders: &Loaders, shim: &Loader, second: &Loader) -> io::Result<Verdict> {
    let shim = Trust::of(&loaders.bytes(shim)?);
    Ok(shim.verdict_on(&Trust::of(&loaders.bytes(second)?)))
}

/// What people read before they use a loader: all of them, or those named, and `agent` for its kernel.
pub fn trust_report(loaders: &Loaders, ids: &[String]) -> io::Result<Vec<String>> {
    let catalogue = loaders.catalogue();
    let trust = |loader: &Loader| loaders.bytes(loader).map(|bytes| Trust::of(&bytes));
    let mut shims = Vec::new();
    for shim in catalogue.iter().filter(|l| l.kind == LoaderKind::Shim) {
        shims.push((shim, trust(shim)?));
    }
    let wanted = |id: &str| ids.is_empty() || ids.iter().any(|wanted| wanted == id);
    let mut told = Vec::new();
    for loader in catalogue.iter().filter(|loader| wanted(&loader.id)) {
        told.push(describe(loader, &trust(loader)?, &shims));
    }
    if let Some(agent) = loaders.agent().as_ref()
        && wanted("agent")
    {
        let kernel = Trust::of(&agent.vmlinuz);
        let signer = kernel.signer().map_or("nobody", |signer| &signer.subject);
        told.push(format!("agent: its kernel is signed by {signer}"));
        for (shim, other) in &shims {
            let verdict = match other.verdict_on(&kernel) {
                // SBAT is demanded of loaders, not of the kernels that GRUB hands to shim.
                Verdict::NoSbat => Verdict::Starts,
                verdict => verdict,
            };
            told.push(format!("  {} {verdict}", shim.id));
        }
    }
    Ok(told)
}

/// `shims` are the catalogue's, with what their files say.
fn describe(loader: &Loader, trust: &Trust, shims: &[(&Loader, Trust)]) -> String {
    let mut lines = vec![format!(
        "{}: {} {}, from {}",
        loader.id, loader.file_name, loader.version, loader.source_package
    )];
    if loader.firmware != FirmwareKind::Uefi {
        lines.push(format!(
            "  for {}, which checks no signatures",
            loader.firmware
        ));
        return lines.join("\n");
    }
    match trust.signer() {
        None => lines.push(
            "  not signed: firmware with Secure Boot refuses it, and so does every shim".to_owned(),
        ),
        Some(signer) => lines.push(format!(
            "  signed by {}, certified by {}, good until {}",
            signer.subject, signer.issuer, signer.until
        )),
    }
    let list = |title: &str, of: &[Generation]| {
        let words: Vec<String> = of
            .iter()
            .map(|g| format!("{} {}", g.component, g.number))
            .collect();
        format!("  {title} {}", words.join(", "))
    };
    if !trust.sbat.is_empty() {
        lines.push(list("SBAT", &trust.sbat));
    }
    if !trust.demands.is_empty() {
        lines.push(list("takes no older than", &trust.demands));
    }
    for own in &trust.vendor {
        lines.push(format!(
            "  trusts {}, good until {}",
            own.subject, own.until
        ));
    }
    if loader.kind != LoaderKind::Shim {
        for (shim, other) in shims.iter().filter(|(shim, _)| shim.arch == loader.arch) {
            lines.push(format!("  {} {}", shim.id, other.verdict_on(trust)));
        }
    }
    lines.join("\n")
}

/// `component,generation,...`, a line each, up to the first NUL.
fn generations(section: &[u8]) -> Vec<Generation> {
    let text = section.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text)
        .lines()
        .take(MAX_LINES)
        .filter_map(|line| {
            let mut fields = line.split(',');
            Some(Generation {
                component: fields.next()?.trim().to_owned(),
                number: fields.next()?.trim().parse().ok()?,
            })
        })
        .collect()
}

/// The section begins with a format number, 0, and two offsets counted from behind it: the level that is set
/// without asking, and the newest.
fn latest_level(section: &[u8]) -> Option<&[u8]> {
    let (format, rest) = section.split_first_chunk::<4>()?;
    if *format != [0; 4] {
        return None;
    }
    let latest = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
    rest.get(usize::try_from(latest).ok()?..)
}

/// More than any SBAT section has.
const MAX_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(subject: &str, issuer: &str) -> Certificate {
        Certificate {
            subject: subject.into(),
            issuer: issuer.into(),
            authority: false,
            until: String::new(),
        }
    }

    fn signed(issuer: &str, sbat: &[u8]) -> Trust {
        Trust {
            certificates: vec![certificate("Signer", issuer)],
            sbat: generations(sbat),
            ..Trust::default()
        }
    }

    fn shim() -> Trust {
        let mut level = vec![0, 0, 0, 0, 8, 0, 0, 0, 20, 0, 0, 0];
        level.extend(b"sbat,1,1\n\0\0\0sbat,1,2\nshim,4\ngrub,5\n\0");
        Trust {
            demands: generations(latest_level(&level).unwrap()),
            vendor: vec![certificate("Debian Secure Boot CA", "")],
            ..signed("Microsoft Corporation UEFI CA 2011", b"shim,4,UEFI shim\n")
        }
    }

    #[test]
    fn an_unsigned_or_revoked_loader_is_named() {
        let debian = "Debian Secure Boot CA";
        let grub = |generation| {
            signed(
                debian,
                format!("sbat,1,SBAT\ngrub,{generation},FSF\n").as_bytes(),
            )
        };
        for (other, verdict) in [
            (grub(5), Verdict::Starts),
            (
                grub(3),
                Verdict::Revoked {
                    component: "grub".into(),
                    has: 3,
                    needs: 5,
                },
            ),
            (Trust::default(), Verdict::Unsigned),
            (
                signed("Somebody", b"grub,5\n"),
                Verdict::OtherSigner("Somebody".into()),
            ),
            (signed(debian, b""), Verdict::NoSbat),
        ] {
            assert_eq!(shim().verdict_on(&other), verdict);
        }
    }

    /// A PE file with one section, whose name stands in the string table, as shim's `.sbatlevel` does.
    #[test]
    fn sections_with_long_names_are_found() {
        let mut file = vec![0; 0x40];
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0");
        file.extend([0x64, 0x86, 1, 0, 0, 0, 0, 0]);
        let strings = 0x40_u32 + 24 + 40 + 12;
        file.extend(strings.to_le_bytes());
        file.extend([0; 8]);
        file.extend(b"/4\0\0\0\0\0\0");
        let mut row = [0_u8; 32];
        row[0] = 12;
        row[8] = 12;
        row[12] = u8::try_from(0x40 + 24 + 40).unwrap();
        file.extend(row);
        file.extend(b"sbat,1,2\n\0\0\0");
        file.extend(b"\x10\0\0\0.sbatlevel\0");
        let section = Pe::read(&file).unwrap().section(b".sbatlevel").unwrap();
        assert_eq!(generations(section)[0].component, "sbat");
        for end in 0..file.len() {
            let _ = Trust::of(&file[..end]);
        }
    }

    proptest! {
        #[test]
        fn any_section_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = latest_level(&bytes).map(generations);
            let _ = Trust::of(&bytes);
        }

        #[test]
        fn any_sections_are_survived(tail in proptest::collection::vec(any::<u8>(), 24..400)) {
            let mut file = vec![0; 0x40];
            file[0x3c] = 0x40;
            file.extend(b"PE\0\0");
            file.extend(tail);
            let _ = Trust::of(&file);
        }
    }
}
