//! Asks a model that lives in a Python process, `examples/python/model.py`.
//!
//! ```text
//! python examples/python/model.py /model
//! cargo run --example model_client -- /model
//! ```
//!
//! Names of keyword arguments go as a struct or map; positional ones as a tuple.

use futures_util::future::try_join_all;
use ringspan::rpc::{CallError, Client};
use serde::Serialize;
use std::error::Error;
use std::time::Duration;

type Point = (f64, f64, bool);

#[derive(Serialize)]
struct Train<'a> {
    points: &'a [Point],
    epochs: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("usage: model_client NAME")?;
    let model = Client::connect(&name).await?.with_timeout(Duration::from_secs(20));

    let points: Vec<Point> = model.call_method("samples", &(300, 1)).await?;
    let args = Train { points: &points, epochs: 200 };
    let error: f64 = model.call_method("train", &args).await?;
    println!("trained: mean error below 0.1: {}", error < 0.1);

    // All points of a grid at once, on one connection.
    let grid =
        (0..40).flat_map(|x| (0..40).map(move |y| (f64::from(x) / 40.0, f64::from(y) / 40.0)));
    let asked = grid.filter(|(x, y)| (x + y - 1.0).abs() > 0.1).map(|(x, y)| {
        let model = &model;
        async move {
            let likely: f64 = model.call_method("predict", &(x, y)).await?;
            Ok::<_, CallError>((likely > 0.5) == (x + y > 1.0))
        }
    });
    let right = try_join_all(asked).await?;
    let wrong = right.iter().filter(|right| !**right).count();
    println!("{} points asked, {wrong} wrong", right.len());

    // What Python raises comes by its name and its words, with the traceback as text.
    let nothing: [Point; 0] = [];
    match model.call_method::<_, f64>("train", &(nothing,)).await {
        Err(CallError::Remote { error, .. }) => println!("{}: {}", error.type_name, error.message),
        other => return Err(format!("expected an error, got {other:?}").into()),
    }
    Ok(())
}
