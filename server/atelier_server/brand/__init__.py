"""What is known of brands: their records and reference pictures, and how near a picture is to them. No models here."""
