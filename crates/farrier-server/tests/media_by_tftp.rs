//! Large images by TFTP: nobody waits for the disk but who asked for one, and their memory is given back.

mod site;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use farrier_server::boot_tree::{Asker, BootTree, Channel, Missing};
use farrier_server::core::now;
use tokio::net::UdpSocket;

use site::Site;
use site::tftp::{Tftp, tftp};

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);
const LARGE: u64 = 400 << 20;
/// The client ends its transfer.
const ENOUGH: &[u8] = b"\0\x05\0\0enough\0";
const ASKER: Asker = Asker {
    ip: std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
    server: std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
    by: Channel::Tftp,
};

/// Files full of nothing, which take no room on the disk.
fn put_media(data: &std::path::Path, media: &[(&str, u64)]) {
    let folder = data.join("media");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, len) in media {
        File::create(folder.join(name))
            .unwrap()
            .set_len(*len)
            .unwrap();
    }
}

async fn ask(server: &Tftp, client: &UdpSocket, name: &str) {
    let request = format!("\0\u{1}{name}\0octet\0tsize\x000\0");
    client.send_to(request.as_bytes(), server.at).await.unwrap();
}

/// What the server says of the size, and from where.
async fn size(client: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 600];
    let heard = tokio::time::timeout(Duration::from_secs(60), client.recv_from(&mut buffer)).await;
    let (len, from) = heard.expect("no answer").unwrap();
    let text = String::from_utf8_lossy(&buffer[2..len]).into_owned();
    assert_eq!(buffer[..2], [0, 6], "an OACK: {text}");
    (text, from)
}

async fn over(server: &Tftp) {
    for _ in 0..100 {
        if server.transfers.running() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} transfers are left", server.transfers.running());
}

/// One event loop for everything, as the boot plane has it for TFTP.
#[tokio::test]
async fn t9_others_are_answered_while_a_large_image_is_read() {
    let data = tempfile::tempdir().unwrap();
    put_media(data.path(), &[("rescue.iso", LARGE)]);
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let [large, small] = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    for _ in 0..3 {
        ask(&server, &large, "boot/media/rescue.iso").await;
    }
    ask(&server, &small, "boot/first.ipxe").await;
    let (_, from) = size(&small).await;
    let mut buffer = [0; 600];
    assert!(
        large.try_recv(&mut buffer).is_err(),
        "the later request is answered first"
    );
    small.send_to(ENOUGH, from).await.unwrap();

    let (said, from) = size(&large).await;
    assert!(said.contains(&LARGE.to_string()), "{said}");
    assert_eq!(site.core.media.held(), LARGE, "read once");
    large.send_to(ENOUGH, from).await.unwrap();
    over(&server).await;
    site.core.media.let_go(now() + Duration::from_secs(1));
    assert_eq!(site.core.media.held(), LARGE);
    site.core.media.let_go(now() + Duration::from_secs(600));
    assert_eq!(site.core.media.held(), 0);
}

#[tokio::test]
async fn t9_the_memory_of_large_images_is_bounded_and_given_back() {
    let data = tempfile::tempdir().unwrap();
    let names = ["one.iso", "two.iso", "three.iso"];
    put_media(data.path(), &names.map(|name| (name, LARGE)));
    let site = Site::open(data.path()).await;
    let tree = BootTree::new(Arc::clone(&site.core), vec![LOOPBACK]);
    let media = &site.core.media;
    let fetch = async |name: &str| tree.resolve(&format!("boot/media/{name}"), ASKER).await;

    let one = fetch("one.iso").await.unwrap();
    let again = fetch("one.iso").await.unwrap();
    assert_eq!(
        one.content.as_ptr(),
        again.content.as_ptr(),
        "all transfers share one copy"
    );
    let two = fetch("two.iso").await.unwrap();
    let refused = fetch("three.iso").await.unwrap_err();
    let Missing::Unreadable(why) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("try again"), "{why}");
    drop(two);
    let three = fetch("three.iso").await.unwrap();
    assert_eq!(media.held(), 2 * LARGE, "what nobody was sent made room");

    let later = now() + Duration::from_secs(3600);
    media.let_go(later);
    assert_eq!(media.held(), 2 * LARGE, "they are being sent");
    drop((one, again));
    std::fs::remove_file(data.path().join("media/one.iso")).unwrap();
    media.reload();
    media.let_go(later);
    assert_eq!(media.held(), LARGE, "one was removed");
    drop(three);
    media.let_go(later + Duration::from_secs(299));
    assert_eq!(media.held(), LARGE, "the next machine may want it");
    media.let_go(later + Duration::from_secs(300));
    assert_eq!(media.held(), 0);
}
