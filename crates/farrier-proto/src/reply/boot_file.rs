//! How a reply says what to boot.

use std::net::Ipv4Addr;

use super::skeleton::echo;
use crate::wire::dhcpv4::Message;
use crate::wire::option;
use crate::wire::pxe::{Mtftp, PxeVendorOptions};

/// The boot program and how it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Where the program is fetched from.
    pub next_server: Ipv4Addr,
    /// A path for TFTP or an absolute URL. Empty for firmware that is told the server only, and asks it for names
    /// of its own making.
    pub name: String,
    pub style: BootStyle,
    /// Where a BIOS ROM may listen for the program instead. Only told with [`BootStyle::PxeFinal`] and by a boot
    /// server; firmware without MTFTP passes over it, and edk2, which throws such an offer away, must not get it.
    pub mtftp: Option<Mtftp>,
    /// What a PXE client is told in option 43 in place of what the style says: a menu of its ROM.
    pub menu: Option<PxeVendorOptions>,
}

/// What goes beside the file name. A style the request's class does not fit is toned down to
/// [`Plain`](Self::Plain), so that nobody gets option 60 who did not send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootStyle {
    /// Only the name: right for everything but PXE firmware beside a ProxyDHCP.
    Plain,
    /// Option 60 `PXEClient` and discovery control 8: load this file, ask nobody else.
    PxeFinal,
    /// Option 60 `PXEClient` without option 43: edk2 takes it for BINL and asks port 4011.
    AskPort4011,
    /// Option 60 `HTTPClient`, the name is a whole URL.
    HttpUrl,
    /// For iPXE. From a full DHCP server `no_proxy_wait` spares it two seconds of waiting for a ProxyDHCP.
    Ipxe { no_proxy_wait: bool },
}

/// `PXEClient`, nine bytes and no suffix (PXE 2.1 table 2-5).
pub(super) const PXE_CLIENT: &[u8] = b"PXEClient";
const HTTP_CLIENT: &[u8] = b"HTTPClient";

/// 175.176 = 1.
const NO_PXE_DHCP: [u8; 3] = [176, 1, 1];

/// The file field keeps room for a NUL; longer names travel in option 67 only.
const MAX_FILE: usize = 127;

impl BootFile {
    /// Writes siaddr, sname and file.
    pub(super) fn fill_header(&self, reply: &mut Message) {
        reply.siaddr = self.next_server;
        if !self.next_server.is_unspecified() {
            reply.sname = self.next_server.to_string().into_bytes();
        }
        if self.name.len() <= MAX_FILE {
            reply.file = self.name.clone().into_bytes();
        }
    }

    /// Writes option 66 where asked. It comes among the ordinary options.
    pub(super) fn fill_server_name(&self, request: &Message, reply: &mut Message) {
        let asked = request
            .parameter_request_list()
            .contains(&option::TFTP_SERVER_NAME);
        if asked && !self.next_server.is_unspecified() {
            reply
                .options
                .set(option::TFTP_SERVER_NAME, self.next_server.to_string());
        }
    }

    /// Writes 60, 97, 43 and 67, in this order, near the end.
    pub(super) fn fill_class(&self, request: &Message, reply: &mut Message, style: BootStyle) {
        let class = request.vendor_class();
        let pxe = class.is_some_and(|class| class.is_pxe_client());
        let http = class.is_some_and(|class| class.is_http_client());
        let menu = self.menu.as_ref().filter(|_| pxe);
        if menu.is_some() {
            reply
                .options
                .set(option::VENDOR_CLASS_IDENTIFIER, PXE_CLIENT);
        }
        match style {
            BootStyle::PxeFinal | BootStyle::AskPort4011 if pxe => {
                reply
                    .options
                    .set(option::VENDOR_CLASS_IDENTIFIER, PXE_CLIENT);
            }
            BootStyle::HttpUrl if http => {
                reply
                    .options
                    .set(option::VENDOR_CLASS_IDENTIFIER, HTTP_CLIENT);
            }
            BootStyle::Ipxe {
                no_proxy_wait: true,
            } => {
                reply.options.set(option::IPXE_ENCAPSULATED, NO_PXE_DHCP);
            }
            _ => {}
        }
        echo(request, reply, option::CLIENT_MACHINE_IDENTIFIER);
        let is_final = style == BootStyle::PxeFinal && pxe;
        let final_file = || PxeVendorOptions {
            mtftp: self.mtftp,
            ..PxeVendorOptions::boot_file_is_final()
        };
        let vendor = menu.cloned().or_else(|| is_final.then(final_file));
        if let Some(vendor) = vendor {
            reply
                .options
                .set(option::VENDOR_SPECIFIC_INFORMATION, vendor.encode());
        }
        self.fill_name(request, reply, style);
    }

    /// Option 67 where asked, for every URL of HTTP Boot, and where the file field is too short.
    pub(super) fn fill_name(&self, request: &Message, reply: &mut Message, style: BootStyle) {
        if self.name.is_empty() {
            return;
        }
        let asked = request
            .parameter_request_list()
            .contains(&option::BOOTFILE_NAME);
        if asked || style == BootStyle::HttpUrl || self.name.len() > MAX_FILE {
            reply
                .options
                .set(option::BOOTFILE_NAME, self.name.as_bytes());
        }
    }
}
