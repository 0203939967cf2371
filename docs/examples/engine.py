import asyncio

from atelier_server import AspectRatio, ImageGenerationEngine, ImageGenerationRequest, ImageQuality, ImageStyle


async def main():
    # Initialize engine
    engine = ImageGenerationEngine(
        openai_api_key="your-api-key",
        device="cuda",  # or "cpu"
    )

    await engine.initialize()

    # Create request
    request = ImageGenerationRequest(
        prompt="Luxury leather handbag with gold hardware on marble surface",
        style=ImageStyle.LUXURY,
        aspect_ratio=AspectRatio.SQUARE,
        quality=ImageQuality.HD,
        brand_consistency_check=True,
        seed=42,
    )

    # Generate image
    result = await engine.generate_image(request)

    # Access results
    print(f"Model: {result.model_used}")
    print(f"Time: {result.generation_time_ms}ms")
    print(f"Aesthetic: {result.aesthetic_score}/10")
    print(f"Brand Consistency: {result.brand_consistency_score}")

    # Save image
    result.save_to_file("output.png")

    # Get metrics
    metrics = engine.get_metrics()
    print(f"Total generations: {metrics['total_generations']}")
    print(f"Success rate: {metrics['success_rate']}")


asyncio.run(main())
