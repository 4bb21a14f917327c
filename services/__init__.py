"""The services. None imports another; they meet in contracts/ and over RabbitMQ."""
