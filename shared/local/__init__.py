"""The suite on one machine, without containers: MongoDB, RabbitMQ and Samla's processes, under SAMLA_HOME."""
