//! ipc-channel's bytes channel: one socket message per message.

use ipc_channel::ipc::bytes_channel;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::link::{Link, Place, Res};

/// Both directions.
pub struct IpcChannel {
    out: IpcBytesSender,
    back: IpcBytesReceiver,
}

impl Link for IpcChannel {
    async fn parent(place: &Place) -> Res<Self> {
        let (server, name) = IpcOneShotServer::<(IpcBytesSender, IpcBytesReceiver)>::new()?;
        place.start(&[name])?;
        let (_, (out, back)) = server.accept()?;
        Ok(Self { out, back })
    }

    async fn child(place: &Place) -> Res<Self> {
        let (theirs_out, back) = bytes_channel()?;
        let (out, theirs_back) = bytes_channel()?;
        IpcSender::connect(place.extra(0)?)?.send((theirs_out, theirs_back))?;
        Ok(Self { out, back })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.out.send(message)?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        see(&self.back.recv()?);
        Ok(1)
    }
}
