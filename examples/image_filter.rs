//! Filters pictures for other processes, which may be Python: `examples/python/filter_client.py`.
//!
//! ```text
//! cargo run --release --example image_filter -- /filter
//! python examples/python/filter_client.py /filter pictures
//! ```
//!
//! Two ways for large data. `edges` takes a whole PGM file as raw bytes and returns one: nothing is encoded.
//! `blur` takes a numpy array among other arguments and returns one.

use ringspan::codec::NdArray;
use ringspan::rpc::{Answer, HandlerError, Service};
use std::error::Error;
use tokio::task::spawn_blocking;

/// A grey picture, row by row.
struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn new(width: usize, height: usize, pixels: &[u8]) -> Answer<Picture> {
        if width == 0 || height == 0 || width.checked_mul(height) != Some(pixels.len()) {
            let text = format!("{} bytes are no picture of {width} x {height}", pixels.len());
            return Err(HandlerError::new("ValueError", text)); // Python catches it as ValueError
        }
        Ok(Picture { width, height, pixels: pixels.to_vec() })
    }

    /// Reads a binary PGM: `P5 WIDTH HEIGHT 255`, one blank, the pixels.
    fn from_pgm(file: &[u8]) -> Answer<Picture> {
        let bad = || HandlerError::new("ValueError", "this is not a binary PGM of 8 bits");
        let mut rest = file;
        let mut word = || {
            let end = rest.iter().position(u8::is_ascii_whitespace)?;
            let (word, behind) = rest.split_at(end);
            rest = behind.get(1..)?;
            std::str::from_utf8(word).ok()
        };
        let (Some("P5"), Some(width), Some(height), Some("255")) = (word(), word(), word(), word())
        else {
            return Err(bad());
        };
        Picture::new(width.parse()?, height.parse()?, rest)
    }

    fn to_pgm(&self) -> Vec<u8> {
        let mut file = format!("P5\n{} {}\n255\n", self.width, self.height).into_bytes();
        file.extend_from_slice(&self.pixels);
        file
    }

    /// The nearest pixel of the picture.
    fn at(&self, x: isize, y: isize) -> i32 {
        let x = x.clamp(0, self.width as isize - 1) as usize;
        let y = y.clamp(0, self.height as isize - 1) as usize;
        i32::from(self.pixels[y * self.width + x])
    }

    fn map(&self, pixel: impl Fn(isize, isize) -> i32) -> Picture {
        let rows = (0..self.height as isize).flat_map(|y| {
            let pixel = &pixel;
            (0..self.width as isize).map(move |x| pixel(x, y).clamp(0, 255) as u8)
        });
        Picture { pixels: rows.collect(), ..*self }
    }

    /// Sobel: how steep it is at each pixel.
    fn edges(&self) -> Picture {
        self.map(|x, y| {
            let p = |dx, dy| self.at(x + dx, y + dy);
            let across = p(1, -1) + 2 * p(1, 0) + p(1, 1) - p(-1, -1) - 2 * p(-1, 0) - p(-1, 1);
            let down = p(-1, 1) + 2 * p(0, 1) + p(1, 1) - p(-1, -1) - 2 * p(0, -1) - p(1, -1);
            f64::from(across).hypot(f64::from(down)) as i32
        })
    }

    /// The mean of the square of `2 * radius + 1` around each pixel.
    fn blur(&self, radius: u8) -> Picture {
        let r = isize::from(radius);
        let count = (2 * r as i32 + 1).pow(2);
        self.map(|x, y| {
            let square = (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dx, dy)));
            square.map(|(dx, dy)| self.at(x + dx, y + dy)).sum::<i32>() / count
        })
    }
}

async fn blur((image, radius): (NdArray, u8)) -> Answer<NdArray> {
    let meta = image.meta();
    let ([height, width], false, Some(pixels)) =
        (meta.shape(), meta.is_fortran(), image.to_vec::<u8>())
    else {
        let text = format!("a C-ordered array of uint8 with two dimensions, not {meta:?}");
        return Err(HandlerError::new("TypeError", text));
    };
    let picture = Picture::new(usize::try_from(*width)?, usize::try_from(*height)?, &pixels)?;
    // Work of more than some microseconds belongs into a thread, or it holds up all other calls.
    let blurred = spawn_blocking(move || picture.blur(radius).pixels).await?;
    Ok(NdArray::from_slice(meta.shape(), &blurred)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("usage: image_filter NAME")?;
    let server = Service::builder(&name)
        .method_bytes("edges", |file: bytes::Bytes| async move {
            let picture = Picture::from_pgm(&file)?;
            Ok::<_, HandlerError>(spawn_blocking(move || picture.edges().to_pgm()).await?)
        })
        .method("blur", blur)
        .serve()
        .await?;
    println!("serving");
    server.join().await;
    Ok(())
}
