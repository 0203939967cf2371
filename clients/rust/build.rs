fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["../../protos/atelier/v1/image_generation.proto"];
    tonic_build::configure().build_server(false).compile_protos(&protos, &["../../protos"])?;
    Ok(())
}
