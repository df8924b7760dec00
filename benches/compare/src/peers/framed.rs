//! Length-delimited frames over a socket in tokio: the plain `UnixStream`, and interprocess's
//! local socket.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use interprocess::local_socket::tokio::Stream as LocalStream;
use interprocess::local_socket::traits::tokio::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::link::{Link, Place, Res, Runtime};

type Frames<S> = Framed<S, LengthDelimitedCodec>;

fn frames<S: AsyncRead + AsyncWrite>(stream: S) -> Frames<S> {
    Framed::new(stream, LengthDelimitedCodec::new())
}

async fn next<S>(frames: &mut Frames<S>, see: &mut impl FnMut(&[u8])) -> Res<u64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = frames.next().await.ok_or("the other side is gone")??;
    see(&frame);
    Ok(1)
}

/// `FLUSH` 1: each message is flushed. 0: the codec's buffer collects (`feed`).
pub struct Unix<const FLUSH: usize>(Frames<UnixStream>);

impl<const FLUSH: usize> Link for Unix<FLUSH> {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        let path = place.path("sock");
        let listener = UnixListener::bind(&path)?;
        place.start(&[])?;
        let (stream, _) = listener.accept().await?;
        std::fs::remove_file(path)?;
        Ok(Self(frames(stream)))
    }

    async fn child(place: &Place) -> Res<Self> {
        let stream = UnixStream::connect(place.path("sock")).await?;
        let mut frames = frames(stream);
        frames.set_backpressure_boundary(64 << 10);
        Ok(Self(frames))
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        let frame = Bytes::copy_from_slice(message);
        if FLUSH == 1 {
            self.0.send(frame).await?
        } else {
            self.0.feed(frame).await?
        }
        Ok(())
    }

    async fn flush(&mut self) -> Res<()> {
        Ok(SinkExt::<Bytes>::flush(&mut self.0).await?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        next(&mut self.0, &mut see).await
    }
}

/// The same frames over interprocess.
pub struct Local(Frames<Pin<Box<LocalStream>>>);

impl Link for Local {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        let name = place.path("local").to_fs_name::<GenericFilePath>()?;
        let listener = ListenerOptions::new().name(name).create_tokio()?;
        place.start(&[])?;
        Ok(Self(frames(Box::pin(listener.accept().await?))))
    }

    async fn child(place: &Place) -> Res<Self> {
        let name = place.path("local").to_fs_name::<GenericFilePath>()?;
        Ok(Self(frames(Box::pin(LocalStream::connect(name).await?))))
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.0.send(Bytes::copy_from_slice(message)).await?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        next(&mut self.0, &mut see).await
    }
}
