//! tonic: gRPC over a Unix socket. What its generator writes from a .proto file with protoc is
//! written here by hand: the messages, the client's calls and the dispatch of the server.

use std::convert::Infallible;
use std::task::{Context, Poll};

use ::tonic::body::Body;
use ::tonic::client::Grpc;
use ::tonic::codegen::{BoxFuture, Service, http};
use ::tonic::server::{Grpc as Serve, NamedService};
use ::tonic::transport::{Channel, Endpoint, Server};
use ::tonic::{Request, Response, Status};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio_stream::wrappers::UnixListenerStream;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::calls::{Answer, Rpc};
use crate::link::{Place, Res};
use crate::peers::rpc::{inherited, listen};

const ADD: &str = "/compare.Functions/Add";
const ECHO: &str = "/compare.Functions/Echo";

/// `message Pair { int64 a = 1; int64 b = 2; }`
#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(int64, tag = "2")]
    b: i64,
}

/// `message Sum { int64 sum = 1; }`
#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(int64, tag = "1")]
    sum: i64,
}

/// `message Blob { bytes data = 1; }`
#[derive(Clone, PartialEq, Message)]
struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

/// The server: finds the function by the path.
#[derive(Clone)]
struct Functions;

impl NamedService for Functions {
    const NAME: &'static str = "compare.Functions";
}

impl Service<http::Request<Body>> for Functions {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let found = match request.uri().path() {
                ADD => Serve::new(ProstCodec::default()).unary(service_fn(add), request).await,
                ECHO => Serve::new(ProstCodec::default()).unary(service_fn(echo), request).await,
                _ => Status::unimplemented("no such function").into_http(),
            };
            Ok(found)
        })
    }
}

async fn add(pair: Request<Pair>) -> Result<Response<Sum>, Status> {
    let Pair { a, b } = pair.into_inner();
    Ok(Response::new(Sum { sum: a + b }))
}

async fn echo(blob: Request<Blob>) -> Result<Response<Blob>, Status> {
    Ok(Response::new(blob.into_inner()))
}

/// The client.
#[derive(Clone)]
pub struct Tonic(Grpc<Channel>);

impl Tonic {
    async fn call<M, R>(&mut self, path: &'static str, message: M) -> Answer<R>
    where
        M: Message + 'static,
        R: Message + Default + 'static,
    {
        self.0.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<M, R>::default();
        Ok(self.0.unary(Request::new(message), path, codec).await?.into_inner())
    }
}

impl Rpc for Tonic {
    type Bytes = Bytes;

    async fn connect(place: &Place) -> Res<Self> {
        listen(place)?;
        let path = place.path("sock");
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()))?;
        let channel = endpoint.connect().await?;
        std::fs::remove_file(path)?;
        Ok(Self(Grpc::new(channel)))
    }

    async fn serve(place: &Place) -> Res<()> {
        let incoming = UnixListenerStream::new(inherited(place)?);
        // As many as the client may have in flight; hyper's own limit is 200.
        let server = Server::builder().max_concurrent_streams(1024).add_service(Functions);
        Ok(server.serve_with_incoming(incoming).await?)
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(self.call::<_, Sum>(ADD, Pair { a, b }).await?.sum)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<Bytes> {
        Ok(self.call::<_, Blob>(ECHO, Blob { data }).await?.data)
    }
}
