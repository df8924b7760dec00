//! Calls of ringspan: typed, where bytes become a `ByteBuf`, and in place, where they stay bytes.

use bytes::Bytes;
use ringspan::rpc::{Answer as Answered, Client, HandlerError, Limits, Service};
use serde_bytes::ByteBuf;

use crate::calls::{Answer, Rpc};
use crate::link::{Place, Res, until_there};

fn name(place: &Place) -> String {
    format!("/{}-calls", place.name)
}

fn connect(place: &Place) -> Res<Client> {
    place.start(&[])?;
    let name = name(place);
    until_there(|| Client::blocking_connect(&name, None))
}

/// Both functions, the second one in both forms.
async fn serve(place: &Place) -> Res<()> {
    serve_awake(place, true).await
}

async fn serve_awake(place: &Place, awake: bool) -> Res<()> {
    async fn add((a, b): (i64, i64)) -> Answered<i64> {
        Ok(a + b)
    }
    let mut limits = Limits::default();
    limits.ring_capacity = place.capacity as u64;
    let server = Service::builder(&name(place))
        .limits(limits)
        .method("add", add)
        .method("echo", |(data,): (ByteBuf,)| async move { Ok::<_, HandlerError>(data) })
        .method_in_place("echo_bytes", |data, reply| {
            reply.write(data);
            Ok::<_, HandlerError>(())
        })
        .stay_awake(awake)
        .serve()
        .await?;
    server.join().await;
    Ok(())
}

/// `call_method` of both.
#[derive(Clone)]
pub struct Owned(Client);

impl Rpc for Owned {
    type Bytes = ByteBuf;

    async fn connect(place: &Place) -> Res<Self> {
        connect(place).map(Self)
    }

    async fn serve(place: &Place) -> Res<()> {
        serve(place).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.0.call_method("add", &(a, b)).await?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<ByteBuf> {
        Ok(self.0.call_method("echo", &(serde_bytes::Bytes::new(&data),)).await?)
    }
}

/// `call_bytes` of a method that works in place.
#[derive(Clone)]
pub struct InPlace(Client);

impl Rpc for InPlace {
    type Bytes = Vec<u8>;

    async fn connect(place: &Place) -> Res<Self> {
        connect(place).map(Self)
    }

    async fn serve(place: &Place) -> Res<()> {
        serve(place).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.0.call_method("add", &(a, b)).await?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<Vec<u8>> {
        Ok(self.0.call_bytes("echo_bytes", &data).await?)
    }
}

/// `blocking_call_method`, one at a time.
#[derive(Clone)]
pub struct Blocking(Client);

impl Rpc for Blocking {
    type Bytes = ByteBuf;

    async fn connect(place: &Place) -> Res<Self> {
        connect(place).map(Self)
    }

    async fn serve(place: &Place) -> Res<()> {
        serve(place).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.0.blocking_call_method("add", &(a, b), None)?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<ByteBuf> {
        let data = serde_bytes::Bytes::new(&data);
        Ok(self.0.blocking_call_method("echo", &(data,), None)?)
    }
}

/// `call_method`, where both sides sleep at once.
#[derive(Clone)]
pub struct Parked(Client);

impl Rpc for Parked {
    type Bytes = ByteBuf;

    async fn connect(place: &Place) -> Res<Self> {
        place.start(&[])?;
        let client = Client::lazy(&name(place)).stay_awake(false);
        until_there(|| client.blocking_call_method::<_, i64>("add", &(1, 1), None))?;
        Ok(Self(client))
    }

    async fn serve(place: &Place) -> Res<()> {
        serve_awake(place, false).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.0.call_method("add", &(a, b)).await?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<ByteBuf> {
        Ok(self.0.call_method("echo", &(serde_bytes::Bytes::new(&data),)).await?)
    }
}
