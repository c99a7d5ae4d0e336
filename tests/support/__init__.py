"""What several tests share: small studies, tiny models and fake parts."""
