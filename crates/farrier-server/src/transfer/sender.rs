//! The content's way onto the socket.

use std::io;

use bytes::Bytes;
use farrier_net::offload;
use farrier_proto::session::tftp_transfer::{TftpTransfer, Transmit};
use farrier_proto::wire::tftp::data_header;

use super::wire::Outgoing;

/// Turns block numbers into datagrams.
pub(super) struct Sender<'a> {
    wire: Outgoing<'a>,
    content: &'a Bytes,
    buffer: Vec<u8>,
    /// Whether the kernel cuts one send into datagrams.
    offload: bool,
}

impl<'a> Sender<'a> {
    pub(super) fn new(wire: Outgoing<'a>, content: &'a Bytes, transfer: &TftpTransfer) -> Self {
        let options = transfer.options();
        let segment = options.blksize.unwrap_or(DEFAULT_BLKSIZE) + HEADER;
        let windowed = options.windowsize.is_some_and(|w| w > 1);
        let offload = windowed && wire.is_own() && offload::cut_sends(wire.socket, segment).is_ok();
        Self {
            wire,
            content,
            buffer: Vec::with_capacity(
                content.len().min(MAX_DATAGRAM).min(segment.into()) + HEADER as usize,
            ),
            offload,
        }
    }

    pub(super) async fn send(&mut self, transmit: Transmit) -> io::Result<()> {
        match transmit {
            Transmit::Oack(packet) | Transmit::Error(packet) => self.wire.send(&packet).await,
            Transmit::Blocks {
                first_block,
                offset,
                blksize,
                count,
                last_len,
            } => {
                let per_send = if self.offload { burst(blksize) } else { 1 };
                let mut done = 0;
                while done < count {
                    let run = per_send.min(count - done);
                    self.fill(
                        first_block + done,
                        offset + u64::from(done) * u64::from(blksize),
                        blksize,
                        run,
                        {
                            if done + run == count {
                                last_len
                            } else {
                                blksize
                            }
                        },
                    );
                    self.send_run(blksize).await?;
                    done += run;
                }
                Ok(())
            }
        }
    }

    fn fill(&mut self, first_block: u16, offset: u64, blksize: u16, count: u16, last_len: u16) {
        self.buffer.clear();
        for i in 0..count {
            let len = usize::from(if i + 1 == count { last_len } else { blksize });
            let start = usize::try_from(offset).unwrap_or(usize::MAX)
                + usize::from(i) * usize::from(blksize);
            self.buffer.extend_from_slice(&data_header(first_block + i));
            self.buffer
                .extend_from_slice(&self.content[start..start + len]);
        }
    }

    /// Sends what is in the buffer; without offload where the path does not take it.
    async fn send_run(&mut self, blksize: u16) -> io::Result<()> {
        match self.wire.send(&self.buffer).await {
            Err(error) if self.offload && error.kind() != io::ErrorKind::ConnectionRefused => {
                tracing::debug!(%error, "segmentation offload refused, sending plainly");
                self.offload = false;
                for packet in self.buffer.chunks(usize::from(blksize + HEADER)) {
                    self.wire.send(packet).await?;
                }
                Ok(())
            }
            sent => sent,
        }
    }
}

/// How many blocks one send may carry: the kernel's limit of segments and of one UDP datagram.
fn burst(blksize: u16) -> u16 {
    let by_size = MAX_DATAGRAM / usize::from(blksize + HEADER);
    u16::try_from(by_size.clamp(1, offload::MAX_SEGMENTS)).unwrap_or(1)
}

const MAX_DATAGRAM: usize = 65_507;
const DEFAULT_BLKSIZE: u16 = 512;
const HEADER: u16 = 4;

#[cfg(test)]
mod tests {
    use super::burst;

    #[test]
    fn a_burst_fits_one_datagram_and_the_kernels_limit() {
        for (blksize, expected) in [(8, 64), (512, 64), (1428, 45), (1468, 44), (65464, 1)] {
            assert_eq!(burst(blksize), expected, "{blksize}");
        }
    }
}
