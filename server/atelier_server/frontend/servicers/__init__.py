"""The services of atelier.v1. A servicer only translates: convert, call, convert."""
