"""What is kept on disk: pictures and the parameters they carry."""
