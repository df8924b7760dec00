//! tarpc: bincode in length-delimited frames, a task for each call on the server, as its examples
//! show. Its queues are made long enough for 1,000 calls in flight.

use ::tarpc::serde_transport as transport;
use ::tarpc::server::{BaseChannel, Channel, Config};
use ::tarpc::tokio_serde::formats::Bincode;
use ::tarpc::tokio_util::codec::LengthDelimitedCodec;
use ::tarpc::{client, context};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::calls::{Answer, Rpc};
use crate::link::{Place, Res};
use crate::peers::rpc::{connect, inherited};

/// Calls that wait in a queue of either side.
const QUEUE: usize = 1024;

/// The functions; `Bytes` are bytes to serde, not a sequence of numbers.
#[::tarpc::service]
trait Functions {
    async fn add(a: i64, b: i64) -> i64;
    async fn echo(data: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Server;

impl Functions for Server {
    async fn add(self, _: context::Context, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn echo(self, _: context::Context, data: Bytes) -> Bytes {
        data
    }
}

/// The generated client.
#[derive(Clone)]
pub struct Tarpc(FunctionsClient);

impl Rpc for Tarpc {
    type Bytes = Bytes;

    async fn connect(place: &Place) -> Res<Self> {
        let frames = LengthDelimitedCodec::builder().new_framed(connect(place).await?);
        let mut config = client::Config::default();
        config.max_in_flight_requests = QUEUE;
        config.pending_request_buffer = QUEUE;
        let wire = transport::new(frames, Bincode::default());
        Ok(Self(FunctionsClient::new(config, wire).spawn()))
    }

    async fn serve(place: &Place) -> Res<()> {
        let (stream, _) = inherited(place)?.accept().await?;
        let frames = LengthDelimitedCodec::builder().new_framed(stream);
        let config = Config { pending_response_buffer: QUEUE };
        let channel = BaseChannel::new(config, transport::new(frames, Bincode::default()));
        let spawn = |handler| async move {
            tokio::spawn(handler);
        };
        channel.execute(Server.serve()).for_each(spawn).await;
        Ok(())
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.0.add(context::current(), a, b).await?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<Bytes> {
        Ok(self.0.echo(context::current(), data).await?)
    }
}
