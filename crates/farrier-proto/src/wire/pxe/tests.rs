use super::*;

#[test]
fn pxe_2_1_final_boot_file_is_three_bytes_and_an_end() {
    assert_eq!(
        PxeVendorOptions::boot_file_is_final().encode(),
        [6, 1, 8, 255]
    );
}

#[test]
fn pxe_2_1_every_field_survives() {
    let options = PxeVendorOptions {
        mtftp: Some(Mtftp {
            address: Ipv4Addr::new(224, 1, 5, 1),
            client_port: 1758,
            server_port: 1759,
            timeout: 1,
            delay: 2,
        }),
        discovery_control: Some(DiscoveryControl(7)),
        discovery_multicast_address: Some(Ipv4Addr::new(224, 0, 1, 2)),
        boot_servers: vec![BootServer {
            kind: BootServerType(0x8001),
            addresses: vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)],
        }],
        boot_menu: vec![
            BootMenuItem {
                kind: BootServerType(0),
                text: b"Local disk".to_vec(),
            },
            BootMenuItem {
                kind: BootServerType(0x8001),
                text: b"Farrier".to_vec(),
            },
        ],
        menu_prompt: Some(MenuPrompt {
            timeout: 3,
            text: b"Press F8".to_vec(),
        }),
        boot_item: Some(BootItem {
            kind: BootServerType(0x8001),
            layer: 0x8000,
        }),
        other: vec![(12, vec![1, 2])],
    };
    let bytes = options.encode();
    assert_eq!(PxeVendorOptions::decode(&bytes), Ok(options));
    assert_eq!(
        bytes[8..10],
        1758_u16.to_le_bytes(),
        "ports are little-endian"
    );
}

#[test]
fn raspberry_pi_menu_as_its_maker_wants_it() {
    let options = PxeVendorOptions {
        discovery_control: Some(DiscoveryControl(8)),
        boot_menu: vec![BootMenuItem {
            kind: BootServerType(0),
            text: b"Raspberry Pi Boot   ".to_vec(),
        }],
        menu_prompt: Some(MenuPrompt {
            timeout: 0,
            text: b"PXE".to_vec(),
        }),
        ..PxeVendorOptions::default()
    };
    let bytes = options.encode();
    assert_eq!(bytes[3..8], [9, 23, 0, 0, 20]);
    assert_eq!(bytes[28..], [10, 4, 0, b'P', b'X', b'E', 255]);
}

#[test]
fn out_of_form_is_kept_and_cut_off_is_told_with_its_offset() {
    let odd = [6, 2, 8, 8, 71, 3, 0, 0, 0, 1, 4, 224, 0, 0, 1, 255, 9, 9];
    let options = PxeVendorOptions::decode(&odd).unwrap();
    assert_eq!(options.other.len(), 3, "{options:?}");
    assert_eq!(options.encode(), odd[..16]);
    for (cut, found) in [(&[6, 1, 8, 9, 5, 1][..], 1), (&[6, 1, 8, 9], 0)] {
        let error = PxeVendorOptions::decode(cut).unwrap_err();
        assert_eq!((error.offset, error.found), (3, found));
    }
}

#[test]
fn a_long_menu_goes_on_in_a_second_sub_option() {
    let item = BootMenuItem {
        kind: BootServerType(0x8000),
        text: vec![b'x'; 100],
    };
    let options = PxeVendorOptions {
        boot_menu: vec![item; 5],
        ..PxeVendorOptions::default()
    };
    assert_eq!(PxeVendorOptions::decode(&options.encode()), Ok(options));
}

/// Three bytes before them: 63 addresses make one sub-option of 255 bytes, which a server may send; of more the rest is
/// cut.
#[test]
fn pxe_2_1_as_many_addresses_as_fit_one_sub_option() {
    for (addresses, kept) in [(62, 62), (63, 63), (64, 63)] {
        let options = PxeVendorOptions {
            boot_servers: vec![BootServer {
                kind: BootServerType(1),
                addresses: vec![Ipv4Addr::new(10, 0, 0, 1); addresses],
            }],
            ..PxeVendorOptions::default()
        };
        let again = PxeVendorOptions::decode(&options.encode()).unwrap();
        assert_eq!(again.boot_servers[0].addresses.len(), kept);
        assert!(again.other.is_empty(), "{again:?}");
    }
}
