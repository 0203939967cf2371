//! generate URL PROMPT FILE: makes one picture and writes it; see docs/11-clients.md.
use std::{env, fs::File, io::Write, time::Duration};

use atelier::generate_response::Event;
use atelier::image_generation_service_client::ImageGenerationServiceClient;
use atelier::{GenerateRequest, Style};

mod atelier {
    tonic::include_proto!("atelier.v1");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [url, prompt, path] = words.as_slice() else {
        return Err("usage: generate http://HOST:PORT PROMPT FILE".into());
    };
    let mut client = ImageGenerationServiceClient::connect(url.clone()).await?;
    let mut request = tonic::Request::new(GenerateRequest {
        prompt: prompt.clone(),
        style: Style::Luxury as i32,
        seed: Some(42),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(600));

    let mut file = File::create(path)?;
    let mut events = client.generate(request).await?.into_inner();
    while let Some(response) = events.message().await? {
        match response.event {
            Some(Event::Progress(progress)) => eprint!("\rstep {}/{} ", progress.step, progress.total_steps),
            Some(Event::ImageChunk(chunk)) => file.write_all(&chunk.data)?,
            Some(Event::ImageCompleted(done)) => {
                let size = done.dimensions.unwrap_or_default();
                println!("{path} {}x{} seed {}", size.width, size.height, done.seed);
            }
            _ => {}
        }
    }
    Ok(())
}
